"""The blocks are never another model: what a user's forward really does is traced, or refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tbft.blocks import check_gradients_reach, check_stages, cut_before, split
from tbft.blocks.state import evaluating
from tbft.errors import SplitError

X = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class OptionalMask(Base):
    def forward(self, x: Tensor, mask: Tensor | None = None, features: bool = False) -> Tensor:
        x = (x - 0.5) * 4 if mask is None else x * mask
        return x if features else super().forward(x)


class Dropping(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.dropout(self.b(self.a(x)), training=self.training))


class Buffered(Base):
    """Buffers computed with in forward, one of them in two blocks; the size of the batch used late."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((4,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        factor = self.scale.exp()
        x = self.b(self.a(x) * factor)
        return self.c((x * factor).reshape(n, -1))


class InPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.b(F.relu(x, inplace=True)))


class Quiet(Base):
    """No gradient comes from its first half."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.a(x)
        return self.c(self.b(x))


def with_hooks(model: nn.Module) -> nn.Module:
    model.register_forward_pre_hook(lambda _, given: ((given[0] - 0.5) * 4,))
    model.register_forward_hook(lambda _, given, out: out * 2)
    return model


def with_own_forward(model: nn.Module) -> nn.Module:
    inner = model.forward
    model.forward = lambda x: inner((x - 0.5) * 4)  # type: ignore[method-assign]
    return model


def nested(model: nn.Module) -> nn.Module:
    return nn.Sequential(with_hooks(model), nn.Linear(3, 3))


MODELS = {
    "plain": (Base, ["b", "c"]),
    "optional": (OptionalMask, ["b", "c"]),
    "dropout": (Dropping, ["b", "c"]),
    "buffers": (Buffered, ["b", "c"]),
    "in place": (InPlace, ["b", "c"]),
    "no gradient": (Quiet, ["b", "c"]),
    "hooks": (lambda: with_hooks(Base()), ["b", "c"]),
    "own forward": (lambda: with_own_forward(Base()), ["b", "c"]),
    "hooks inside": (lambda: nested(Base()), ["0.b", "1"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_stages_are_the_model_in_logits_gradients_and_modes(name):
    make, cuts = MODELS[name]
    model = make()
    before = set(vars(model))
    blocks = split(model, cuts)
    check_stages(blocks, X)
    assert set(vars(model)) == before  # tracing leaves nothing behind
    for training in (False, True):
        model.train(training)
        results = []
        for run in (model, nn.Sequential(*(blocks.block(k) for k in range(len(blocks))))):
            torch.manual_seed(1)
            logits = run(X.clone())
            grads = torch.autograd.grad(logits.sum(), list(model.parameters()), allow_unused=True)
            results.append([logits, *grads])
        for own, theirs in zip(*results, strict=True):
            assert (own is None and theirs is None) or torch.equal(own, theirs)


def test_what_enters_a_block_is_not_overwritten():
    blocks = split(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)), ["1"])
    x = -torch.ones(2, 4)
    blocks.block(1)(x)
    assert torch.equal(x, -torch.ones(2, 4))


def test_a_flag_switched_later_is_noticed():
    class Switched(Base):
        normalize = False

        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - 0.5) * 4 if self.normalize else x)

    model = Switched()
    blocks = split(model, ["b"])
    check_stages(blocks, X)
    model.normalize = True
    with pytest.raises(SplitError, match="a flag that was switched"):
        check_stages(blocks, X)
    check_stages(split(model, ["b"]), X)


def test_a_hook_or_a_forward_given_later_is_noticed():
    for change in (with_hooks, with_own_forward):
        model = Base()
        blocks = split(model, ["b"])
        check_stages(blocks, X)
        change(model)
        with pytest.raises(SplitError, match="logits differ"):
            check_stages(blocks, X)


def test_a_tensor_replaced_later_is_noticed():
    model = Buffered()
    blocks = split(model, ["b"])
    check_stages(blocks, X)
    model.scale = torch.ones(4)
    with pytest.raises(SplitError, match="split it again"):
        check_stages(blocks, X)


def test_the_comparison_costs_once():
    calls = []
    model = Base()
    model.a.register_forward_hook(lambda *_: calls.append(1))
    blocks = split(model, ["b"])
    check_stages(blocks, X)
    count = len(calls)
    check_stages(blocks, X + 1)
    assert len(calls) == count > 0


class ByValue(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.b(-x if x.sum() > 0 else x))


class ByInstance(Base):
    """Looks at the type of what it is given, which tracing changes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - 0.5) * 4 if isinstance(x, Tensor) else x)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Rounded(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(StraightThrough.apply(self.a(x))))


class ByBatch(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return self.c(x if len(x) > 2 else 2 * x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ByValue, "depends on the values of a tensor"),
        (ByInstance, "the blocks in a row are not ByInstance"),
        (Rounded, "StraightThrough is a torch.autograd.Function"),
        (ByBatch, "how many samples are in a batch"),
    ],
)
def test_what_cannot_be_traced_is_refused(model, message):
    with pytest.raises(SplitError, match=message):
        split(model(), ["b", "c"], example=X)


def test_a_size_that_decides_is_traced_along_the_example_and_holds_for_that_size():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.fc = nn.GRUCell(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.dim() == 2:
                x = x[None]
            assert x.shape[-1] == 3, f"{x.shape} is not (n, t, 3)"
            h = x.new_zeros(x.size(0), 4)
            for t in range(x.size(1)):
                h = self.cell(x[:, t], h)
            return self.fc(h)

    model, x = Loop(), torch.rand(5, 6, 3)
    with pytest.raises(SplitError, match="give an example"):
        split(model, ["fc"])
    blocks = split(model, ["fc"], example=x[:2])
    check_stages(blocks, x)
    with pytest.raises(SplitError, match="depends on the size of its inputs"):
        blocks.block(0)(torch.rand(5, 7, 3))


class Counted(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)).reshape(len(x), -1)) / len(self._modules)


def test_the_length_of_a_batch_is_traced_as_its_first_size():
    blocks = split(Counted().eval(), ["b", "c"], example=X)
    check_stages(blocks, X[:1])
    check_stages(blocks, torch.cat([X, X]))
    assert len(X) == X.size(0)  # the builtin is back


def test_mode_dependent_code_in_a_submodule_that_is_cut_is_refused():
    model = nn.Sequential(Dropping(), nn.Linear(3, 3))
    with pytest.raises(SplitError, match="other code in training"):
        split(model, ["0.b"])
    assert split(model, ["1"]).names == ("front", "1")


class Tokens(nn.Module):
    """Two inputs; the mask is needed by every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.fc = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> SimpleNamespace:
        x = self.embed(ids)
        wide = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].float()
        x = torch.relu(self.mix(x * wide)) * wide
        return SimpleNamespace(logits=self.fc(x.sum(1)), hidden=x)


def test_several_inputs_pass_beside_the_tensor_that_crosses():
    x = {"ids": torch.randint(9, (5, 6)), "mask": torch.rand(5, 6) > 0.3}
    model = Tokens().eval()
    blocks = split(model, ["mix", "fc"], example=x)
    joined = blocks.block(0)(x)
    assert torch.equal(blocks.block(1).entering.unpack(joined)["mask"], x["mask"])
    assert isinstance(blocks.block(1)(blocks.block(0)(x)), Tensor)  # the head needs no mask
    assert torch.equal(blocks.onward(0)(x), model(**x).logits)
    with blocks.only("mix") as parameters:
        blocks.onward(1)(blocks.prefix(1)(x)).sum().backward()
        assert all(p.grad is not None for p in parameters)
    check_gradients_reach(blocks, "front", x)


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda z: {"logits": z, "loss": None}, None),
        (lambda z: (z, z.mean()), None),
        (lambda z: {"scores": z, "aux": 0 * z}, lambda returned: returned["scores"]),
    ],
)
def test_logits_are_found_in_what_a_model_returns(wrap, output):
    class Wrapped(Base):
        def forward(self, x: Tensor) -> object:
            return wrap(super().forward(x))

    more = {} if output is None else {"output": output}
    blocks = split(Wrapped(), ["b"], example=X, **more)
    with evaluating(blocks.model):
        assert torch.equal(blocks.whole(X), Base()(X))
    if output is not None:
        with pytest.raises(SplitError, match="output="):
            split(Wrapped(), ["b"])


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def run(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.run, x, use_reentrant=True)


@pytest.mark.filterwarnings("ignore:None of the inputs:UserWarning")
def test_an_arm_that_no_gradient_reaches_is_refused():
    model = Base()
    model.b = Checkpointed()
    blocks = split(model, ["b", "c"])
    check_stages(blocks, X)
    check_gradients_reach(blocks, "front", X)
    check_gradients_reach(blocks, "c", X)
    with pytest.raises(SplitError, match=r"no gradient reaches 'b.inner.weight'"):
        check_gradients_reach(blocks, "b", X)
    quiet = split(Quiet(), ["b", "c"])
    check_gradients_reach(quiet, "b", X)
    with pytest.raises(SplitError, match="no gradient reaches 'a"):
        check_gradients_reach(quiet, "front", X)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_model_that_returns_more_in_training_gives_its_logits_in_both_modes():
    class Auxiliary(Base):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> object:
            x = torch.relu(self.a(x))
            more = self.aux(x) if self.training else None
            logits = self.c(torch.relu(self.b(x)))
            return logits if more is None else (logits, more)

    blocks = split(Auxiliary(), ["b", "c"], example=X)
    for training in (True, False):
        blocks.model.train(training)
        assert torch.equal(blocks.whole(X), blocks.block(2)(blocks.block(1)(blocks.block(0)(X))))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_wrapped_and_compiled_models_are_the_model_inside():
    model = Base()
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        blocks = split(wrapped, ["b"])
        assert blocks.model is model
        check_stages(blocks, X)
    model.compile(backend="eager")
    assert split(model, ["b"]).names == ("front", "b")
    assert model._compiled_call_impl is not None


def test_lazy_layers_are_refused_or_initialized_by_the_example():
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))

    with pytest.raises(SplitError, match=r"lazy layers .* run the model on a batch once"):
        split(lazy())
    assert split(lazy(), example=X).names == ("front", "rear")


def test_an_arm_inside_a_block_of_a_model_that_needs_an_example_can_be_cut_to():
    class Sized(Base):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == 4
            return super().forward(x)

    blocks = split(Sized(), ["b"], example=X)
    finer, at = cut_before(blocks, "c")
    assert (finer.cuts, at) == (("b", "c"), 2)
    check_stages(finer, X)


def test_sparse_state_is_refused_before_anything_is_touched():
    model = Base()
    model.register_buffer("graph", torch.eye(3).to_sparse())
    with pytest.raises(SplitError, match="'graph' is sparse"):
        split(model, ["b"])

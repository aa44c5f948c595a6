"""Small versions of the networks that people have, as their authors write them: no cuts, no names for us.

Each takes inputs of `shape` and tells five classes apart. In plain torch; the seed is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

CLASSES = 5
WORDS = 40


@dataclass(frozen=True)
class Architecture:
    """A network, and the inputs that it takes.

    Attributes:
        make: builds it, untrained.
        shape: of one sample.
        kind: ``pictures``, ``series`` (channels, time) or ``tokens`` (ids).
        batch_norm: whether it has BatchNorm.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kind: str = "pictures"
    batch_norm: bool = True

    def build(self, seed: int = 0) -> nn.Module:
        """The network with its first weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make()

    def batch(self, count: int = 4, seed: int = 0) -> Tensor:
        """Random inputs."""
        generator = torch.Generator().manual_seed(seed)
        if self.kind == "tokens":
            return torch.randint(1, WORDS, (count, *self.shape), generator=generator)
        return torch.rand(count, *self.shape, generator=generator)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.relu = norm(outputs), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + identity)


class ResNet(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), norm(8)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        widths = [8, 8, 16, 32, 32]
        for i, (a, b) in enumerate(pairwise(widths), start=1):
            blocks = BasicBlock(a, b, 1 if i == 1 else 2, norm), BasicBlock(b, b, 1, norm)
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[operator]
        return self.fc(torch.flatten(self.avgpool(x), 1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class InvertedResidual(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: int, act: type[nn.Module], se: bool, drop: float
    ) -> None:
        super().__init__()
        hidden = 2 * inputs
        self.use_res = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            act(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            act(inplace=True),
            SqueezeExcite(hidden) if se else nn.Identity(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.training and self.drop and self.use_res:  # stochastic depth
            out = out * torch.bernoulli(torch.full((len(out), 1, 1, 1), 1 - self.drop)) / (1 - self.drop)
        return x + out if self.use_res else out


class MobileNet(nn.Module):
    """V2 with its plain classifier, V3 and EfficientNet by activation, squeeze-and-excitation and drops."""

    def __init__(
        self, act: type[nn.Module] = nn.ReLU6, se: bool = False, drop: float = 0.0, hidden: int = 0
    ) -> None:
        super().__init__()
        plan = [(8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1), (16, 24, 2), (24, 24, 1)]
        inverted = [InvertedResidual(*step, act, se, drop) for step in plan]
        self.features = nn.Sequential(conv_bn(3, 8), *inverted, conv_bn(24, 48, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        layers = [nn.Linear(48, hidden), act(inplace=True)] if hidden else []
        self.classifier = nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(hidden or 48, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.reshape(x.shape[0], -1))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.act = nn.GELU()
        self.gamma = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.pwconv2(self.act(self.pwconv1(out)))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [8, 16, 24]
        stems = [nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8))]
        stems += [nn.Sequential(LayerNorm2d(a), nn.Conv2d(a, b, 2, 2)) for a, b in pairwise(widths)]
        self.downsample_layers = nn.ModuleList(stems)
        self.stages = nn.ModuleList(nn.Sequential(ConvNeXtBlock(w), ConvNeXtBlock(w)) for w in widths)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, CLASSES)

    def forward_features(self, x: Tensor) -> Tensor:
        for i in range(3):
            x = self.stages[i](self.downsample_layers[i](x))
        return self.norm(x.mean([-2, -1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.forward_features(x))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: list[Tensor]) -> Tensor:
        return self.conv(F.relu(self.norm(torch.cat(x, 1))))


class DenseBlock(nn.ModuleDict):
    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__({f"denselayer{i}": DenseLayer(inputs + i * growth, growth) for i in range(layers)})

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for _, layer in self.items():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 8, 3, padding=1, bias=False))
        width = 8
        for i in range(3):
            self.features.add_module(f"denseblock{i}", DenseBlock(width, 6, 3))
            width += 18
            if i < 2:
                down = nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1), nn.AvgPool2d(2)
                self.features.add_module(f"transition{i}", nn.Sequential(*down))
                width //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        out = F.adaptive_avg_pool2d(F.relu(features, inplace=True), (1, 1))
        return self.classifier(torch.flatten(out, 1))


class UNet(nn.Module):
    """An encoder and a decoder with a skip at every resolution; its map is averaged into logits."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv_bn(3, 8), conv_bn(8, 16), conv_bn(16, 32)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.dec2 = nn.ConvTranspose2d(32, 16, 2, 2), conv_bn(32, 16)
        self.up1, self.dec1 = nn.ConvTranspose2d(16, 8, 2, 2), conv_bn(16, 8)
        self.out = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        b = self.dec2(torch.cat([self.up2(c), b], 1))
        a = self.dec1(torch.cat([self.up1(b), a], 1))
        return self.out(a).mean((2, 3))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).reshape(b, n, c))


class TransformerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, side: int = 16, patch: int = 4, width: int = 16) -> None:
        super().__init__()
        self.img_size, self.patch_embed = side, nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + (side // patch) ** 2, width))
        self.pos_drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(TransformerBlock(width) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        assert h == w == self.img_size, f"a picture of {h} by {w}"
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(b, -1, -1), x), dim=1)
        x = self.pos_drop(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Bert(nn.Module):
    """Token ids, 0 where a text has ended; with `mask` given, that is used instead."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embeddings, self.positions = nn.Embedding(WORDS, width), nn.Embedding(12, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(0.1)
        self.layers = nn.ModuleList(TransformerBlock(width) for _ in range(3))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        x = self.dropout(self.norm(self.embeddings(input_ids) + self.positions(positions)))
        mask = None
        if attention_mask is not None:
            mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


class CausalBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.pad = (2 * dilation, 0)
        self.conv1 = weight_norm(nn.Conv1d(inputs, outputs, 3, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(outputs, outputs, 3, dilation=dilation))
        self.dropout = nn.Dropout(0.1)
        self.downsample = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(F.relu(self.conv1(F.pad(x, self.pad))))
        out = self.dropout(F.relu(self.conv2(F.pad(out, self.pad))))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class TCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [3, 12, 12, 16, 16]
        self.network = nn.Sequential(*(CausalBlock(a, b, 2**i) for i, (a, b) in enumerate(pairwise(widths))))
        self.linear = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.network(x)[:, :, -1])


class Recurrent(nn.Module):
    """As tutorials write it: (n, time, channels), the first state made by hand."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer_dim, self.hidden_dim = 2, 16
        self.rnn = kind(3, 16, 2, batch_first=True)  # type: ignore[arg-type]
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        state = torch.zeros(self.layer_dim, x.size(0), self.hidden_dim, device=x.device)
        out, _ = self.rnn(x, (state, state) if isinstance(self.rnn, nn.LSTM) else state)
        return self.fc(out[:, -1, :])


class StackedCells(nn.Module):
    """A loop over time in the model's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell = nn.Linear(3, 12), nn.GRUCell(12, 16)
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.transpose(1, 2))
        h = x.new_zeros(x.size(0), 16)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.fc(self.norm(h))


class Cnn1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(3, 12, 5, padding=2), nn.BatchNorm1d(12)
        self.conv2, self.bn2 = nn.Conv1d(12, 16, 5, padding=2), nn.BatchNorm1d(16)
        self.conv3, self.bn3 = nn.Conv1d(16, 24, 5, padding=2), nn.BatchNorm1d(24)
        self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool1d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool1d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x))).mean(-1)
        return self.fc(self.dropout(x))


class Tutorial(nn.Module):
    """The network of many a first tutorial: functional dropout, `view`, log-softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 20, 3, padding=1)
        self.conv2_drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = F.dropout(F.relu(self.fc1(x)), training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class ShuffleUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(conv_bn(half, half, 1), conv_bn(half, half, 3, groups=half))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in ((3, 8), (8, 16), (16, 16), (16, 24)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(True), nn.MaxPool2d(2)]
    head = nn.Flatten(), nn.Linear(24, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, CLASSES)
    return nn.Sequential(*layers, *head)


def shufflenet() -> nn.Module:
    stages = [nn.Sequential(ShuffleUnit(w), ShuffleUnit(w), conv_bn(w, w + 8, 1, 2)) for w in (8, 16, 24)]
    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)
    return nn.Sequential(conv_bn(3, 8), *stages, *end)


def squeezenet() -> nn.Module:
    """The last layer is a convolution; the logits are averaged after it."""
    body = [conv_bn(3, 8), conv_bn(8, 16, 3, 2), conv_bn(16, 16), conv_bn(16, 24, 3, 2), nn.Dropout(0.5)]
    return nn.Sequential(*body, nn.Conv2d(24, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU()),
        nn.Linear(24, CLASSES),
    )


PICTURE, SERIES = (3, 16, 16), (3, 32)
ARCHITECTURES: dict[str, Architecture] = {
    "resnet": Architecture(ResNet, PICTURE),
    "resnet-groupnorm": Architecture(lambda: ResNet(lambda c: nn.GroupNorm(4, c)), PICTURE, batch_norm=False),
    "mobilenet-v2": Architecture(MobileNet, PICTURE),
    "mobilenet-v3": Architecture(lambda: MobileNet(nn.Hardswish, se=True, hidden=64), PICTURE),
    "efficientnet": Architecture(lambda: MobileNet(nn.SiLU, se=True, drop=0.1), PICTURE),
    "convnext": Architecture(ConvNeXt, PICTURE, batch_norm=False),
    "densenet": Architecture(DenseNet, PICTURE),
    "vgg": Architecture(vgg, PICTURE),
    "squeezenet": Architecture(squeezenet, PICTURE),
    "shufflenet": Architecture(shufflenet, PICTURE),
    "unet": Architecture(UNet, PICTURE),
    "tutorial": Architecture(Tutorial, PICTURE, batch_norm=False),
    "vit": Architecture(ViT, PICTURE, batch_norm=False),
    "bert": Architecture(Bert, (12,), "tokens", batch_norm=False),
    "cnn-1d": Architecture(Cnn1d, SERIES, "series"),
    "tcn": Architecture(TCN, SERIES, "series", batch_norm=False),
    "gru": Architecture(lambda: Recurrent(nn.GRU), SERIES, "series", batch_norm=False),
    "lstm": Architecture(lambda: Recurrent(nn.LSTM), SERIES, "series", batch_norm=False),
    "gru-cell": Architecture(StackedCells, SERIES, "series", batch_norm=False),
    "mlp": Architecture(mlp, SERIES, "series", batch_norm=False),
}

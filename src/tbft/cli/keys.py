"""``tbft keys new | show | trust | revoke``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tbft.cli.common import Subparsers, add_json, command, print_json
from tbft.report.terminal import table

if TYPE_CHECKING:
    from tbft.patches.keys import PublicKey

EXAMPLES = """
tbft keys new workshop
tbft keys show workshop > workshop.pub      # a copy for the devices
tbft keys trust workshop.pub                # on each device
"""


def add(commands: Subparsers) -> None:
    parser = command(commands, "keys", "make keys for signing patches, and manage trusted keys", EXAMPLES)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    new = command(
        actions,
        "new",
        "make a key pair in $TBFT_KEYS; needs tbft[sign]",
        "tbft keys new workshop\nTBFT_KEY_PASSPHRASE=... tbft keys new workshop",
    )
    new.add_argument("name", metavar="NAME")
    add_json(new)
    new.set_defaults(run=run_new)

    show = command(actions, "show", "list your keys and those trusted here, or print one", "tbft keys show")
    show.add_argument("key", metavar="KEY", nargs="?", help="a name, or a file (.pub)")
    add_json(show)
    show.set_defaults(run=run_show)

    trust = command(
        actions, "trust", "trust a public key on this device ($TBFT_TRUST)", "tbft keys trust workshop.pub"
    )
    trust.add_argument("key", metavar="FILE", help="a public key (.pub)")
    add_json(trust)
    trust.set_defaults(run=run_trust)

    revoke = command(
        actions, "revoke", "stop trusting a key on this device, permanently", "tbft keys revoke workshop.pub"
    )
    revoke.add_argument("key", metavar="KEY", help="the name of a trusted key, a public key (.pub), or an id")
    add_json(revoke)
    revoke.set_defaults(run=run_revoke)


def run_new(arguments: argparse.Namespace) -> None:
    from tbft.patches.keys import new_key, read_public

    path = new_key(arguments.name)
    key = read_public(path.with_suffix(".pub"))
    if arguments.json:
        print_json({**_values(key), "private": str(path), "public": str(path.with_suffix(".pub"))})
        return
    print(f"{path}: keep this private key secret")
    print(
        f"{path.with_suffix('.pub')}: install it on devices with `tbft keys trust`\n{key.line} (id {key.id})"
    )


def run_show(arguments: argparse.Namespace) -> None:
    from tbft.patches.keys import keys_folder, read_public, trust_folder
    from tbft.patches.trust import revoked_ids

    if arguments.key:
        key = read_public(arguments.key)
        if arguments.json:
            print_json(_values(key))
            return
        print(key.line)  # alone, so that a file of it can be trusted
        print(f"id {key.id}", file=sys.stderr)
        return
    revoked = revoked_ids()
    rows = [("name", "id", "what", "file")]
    for folder, what in ((keys_folder(), "own"), (trust_folder(), "trusted")):
        for path in sorted(folder.glob("*.pub")):
            key = read_public(path)
            state = "revoked" if key.id in revoked and what == "trusted" else what
            rows.append((key.name, key.id, state, str(path)))
    if arguments.json:
        print_json({"keys": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]})
        return
    print(table(rows) if len(rows) > 1 else "no keys: make one with `tbft keys new NAME`")


def run_trust(arguments: argparse.Namespace) -> None:
    from tbft.patches.keys import read_public
    from tbft.patches.trust import trust

    key = read_public(arguments.key)
    trust(key)
    if arguments.json:
        print_json({**_values(key), "what": "trusted"})
        return
    print(
        f"{key.name} ({key.id}) is now trusted; TBFT_REQUIRE_SIGNATURE=1 refuses patches not signed by such"
    )


def run_revoke(arguments: argparse.Namespace) -> None:
    import re

    from tbft.patches.keys import read_public, trust_folder
    from tbft.patches.trust import revoke

    trusted = trust_folder() / f"{arguments.key}.pub"
    if re.fullmatch("[0-9a-f]{16}", arguments.key):
        key_id = arguments.key
    else:
        key_id = read_public(trusted if trusted.exists() else arguments.key).id
    revoke(key_id)
    if arguments.json:
        print_json({"id": key_id, "what": "revoked"})
        return
    print(f"{key_id} is no longer trusted")


def _values(key: PublicKey) -> dict[str, str]:
    """A public key as plain values; the line is what `keys show` prints."""
    return {"name": key.name, "id": key.id, "line": key.line}

"""Sign what you saw, and count who else saw the same: `sign` and `count`, which `make sign` and `make trust` run.

A signature is SSH's own (`ssh-keygen -Y`), beside its statement as NAME.json.sig. Whom you trust says a list of public
keys, verification/allowed_signers, in the form that `man ssh-keygen` calls ALLOWED SIGNERS. A statement counts if its
signer is in that list, its signature is good, and it is about this commit. A signer counts once.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from stages.common import cli, files
from stages.common.cli import UserError
from tools.checkout import ROOT, commit_of, git
from tools.names import first_few, on_one_line
from tools.verify import compare, statement
from tools.verify.statement import Statement

NAMESPACE = "rerun@reproducible-mnist"  # a signature made for anything else is not one of a statement
SIGNERS = statement.FOLDER / "allowed_signers"
BOM = "\ufeff"  # which editors on Windows put before the first name of a list
LITERAL = ("key::", "ssh-")  # what a public key in Git's settings, not a path of one, begins with
KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


Signed = tuple[str, Statement]  # one that counts, and the first name that the list of signers has for its key


def ssh_keygen(*arguments: object, data: bytes, **options) -> subprocess.CompletedProcess:
    """Run `ssh-keygen` with `data` on standard input."""
    try:
        command = ["ssh-keygen", *map(str, arguments)]
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, **options)
    except FileNotFoundError:
        raise UserError("ssh-keygen is missing; install OpenSSH's client (Debian: openssh-client)") from None


# ------------------------------------------------------------------------------------------------------------ signing


def own_key() -> str:
    """The key that Git signs with, or else the usual SSH key."""
    chosen = ""
    with contextlib.suppress(UserError):
        chosen = git(ROOT, "config", "user.signingKey").strip()
    for name in map(os.path.expanduser, (chosen, *KEYS)):
        if is_literal(name) or os.path.isfile(name):
            return name
    raise UserError(f"none of your SSH keys is here ({', '.join(KEYS)}); `make sign KEY=...` names another")


def is_literal(key: str) -> bool:
    """Whether this is a public key itself, and no path of one."""
    return key.startswith(LITERAL) and not os.path.isfile(key)


def sign(path: Path, key: str) -> None:
    """Write the signature of the statement in `path`.

    Args:
        key: the path of a private key, or of a public one that an agent holds, or such a public key itself.
    """
    if not path.exists():
        raise UserError(f"{path.relative_to(ROOT)}: no such statement; `make verify` makes it")
    try:
        data = statement.read(path)
        said = statement.parse(data).predicate
    except UserError as error:
        raise UserError(f"{path.relative_to(ROOT)} {error}; `make verify` makes it anew") from None
    cli.log(f"signing with {key}, of {said.commit[:12]} on {said.machine.processor}: {said.verdict}")
    with tempfile.TemporaryDirectory() as folder:
        file = key
        if is_literal(key):
            file = Path(folder, "key.pub")
            file.write_text(key.removeprefix("key::"))
        done = ssh_keygen("-Y", "sign", "-q", "-f", file, "-n", NAMESPACE, data=data)
    if done.returncode:
        raise UserError(f"ssh-keygen cannot sign with {key}, as it says above")
    signature = path.with_name(f"{path.name}.sig")
    files.write_bytes(signature, done.stdout)
    cli.log(f"{signature.relative_to(ROOT)}: commit it with the statement, and share both")


# ----------------------------------------------------------------------------------------------------------- counting


def signer_of(data: bytes, signature: Path, allowed: Path) -> str:
    """The name in `allowed` whose key made the signature of `data`; UserError says why there is none."""
    if not signature.is_file():
        raise UserError("is not signed; `make sign` signs your own")
    found = ssh_keygen("-Y", "find-principals", "-s", signature, "-f", allowed, data=b"", stderr=subprocess.PIPE)
    if found.returncode:
        raise UserError(why_nobody(found.stderr.decode(errors="replace"), allowed))
    names, problem = os.fsdecode(found.stdout).splitlines(), ""
    for name in names:  # one key may have several, also with different options
        check = ("-Y", "verify", "-f", allowed, "-I", name, "-n", NAMESPACE, "-s", signature)
        done = ssh_keygen(*check, data=data, stderr=subprocess.PIPE)
        if not done.returncode:
            return name.removeprefix(BOM)
        problem += done.stderr.decode(errors="replace")
    if "not permitted" in problem:
        raise UserError(f"is signed by {names[0]}, whom {allowed.name} does not list for {NAMESPACE}")
    if "namespace" in problem:
        raise UserError(f"is signed by {names[0]} for another purpose than {NAMESPACE}")
    raise UserError(f"is not what {names[0]} signed: it was changed afterwards, or the signature is another's")


def why_nobody(problem: str, allowed: Path) -> str:
    """Why `ssh-keygen` finds no name for a signature, from what it says."""
    lines = problem.splitlines()
    for line in lines:
        if "Couldn't parse" in line:
            return f"has a damaged signature ({line})"
        if "expired" in line or "not yet valid" in line:
            return f"is signed by a key that is out of date ({line})"
    if "No principal matched." not in lines:
        return f"cannot be checked ({'; '.join(lines)})"
    unread = [line for line in lines if line.startswith(f"{allowed}:")]
    return f"is signed by a key that {allowed.name} does not list" + (f" ({'; '.join(unread)})" if unread else "")


def check_subject(made: Statement, commit: str, lock: bytes, lock_digest: str) -> None:
    """UserError unless the statement is about this commit, and about all that its dvc.lock records."""
    if made.predicate.commit != commit:
        raise UserError(f"is about another commit, {made.predicate.commit[:12]}")
    digests = made.digests()
    if digests.get("dvc.lock") != lock_digest:
        raise UserError("is about another dvc.lock than this commit has")
    named = {str(place) for name in digests for place in (PurePosixPath(name), *PurePosixPath(name).parents)}
    for path in compare.outputs(compare.parse_lock(lock)) if made.predicate.reproduced == "bits" else ():
        if path not in named:
            raise UserError(f"does not name {path}, which dvc.lock records")


def gather(folder: Path, commit: str, allowed: Path) -> tuple[list[Signed], list[str]]:
    """The statements about a commit that count, and one line for each other one."""
    lock = git(ROOT, "show", f"{commit}:./dvc.lock").encode()
    lock_digest = hashlib.sha256(lock).hexdigest()
    signed, refused = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            data = statement.read(path)
            signer = signer_of(data, path.with_name(f"{path.name}.sig"), allowed)
            made = statement.parse(data)
            check_subject(made, commit, lock, lock_digest)
            signed.append((signer, made))
        except UserError as error:
            refused.append(on_one_line(f"refused: {path.name} {error}"))
    return signed, refused


def agreeing(signed: list[Signed]) -> list[list[Signed]]:
    """Those who saw what dvc.lock records, grouped by the bytes that they saw; the group of most signers is first."""
    groups: dict[tuple, list[Signed]] = {}
    for signer, made in signed:
        if made.predicate.reproduced == "bits":
            groups.setdefault(tuple(sorted(made.digests().items())), []).append((signer, made))
    return sorted(groups.values(), key=lambda group: len(signers(group)), reverse=True)


def signers(signed: list[Signed]) -> list[str]:
    """Their names, each once."""
    return sorted({signer for signer, _ in signed})


def different(one: Statement, other: Statement) -> str:
    """The paths of which two statements have other bytes, the first few by name."""
    return first_few((name for name, _ in one.digests().items() ^ other.digests().items()), most=5)


def count(commit: str, least: int, allowed: Path) -> bool:
    """Print who saw what, and whether at least so many signers saw the same bytes."""
    signed, refused = gather(statement.FOLDER / commit, commit, allowed)
    agreed, *others = agreeing(signed) or [[]]
    for signer, made in signed:
        line = f"{signer} on {made.predicate.machine.processor}: {made.predicate.verdict}"
        if agreed and (signer, made) not in agreed:
            line += f"; other bytes: {different(agreed[0][1], made)}"
        print(on_one_line(line))
    print(*refused, sep="\n", end="\n" * bool(refused))
    names = signers(agreed)
    processors = {made.predicate.machine.processor for _, made in agreed}
    contested = any(len(signers(group)) >= len(names) for group in others)
    trusted = len(names) >= least and not contested
    print(
        f"{'trusted' if trusted else 'not trusted'}: {len(names)} signer(s) saw the bytes that {commit[:12]} records, on "
        f"{len(processors)} kind(s) of processor; at least {least} asked for"
        + ("; as many say that other bytes are the recorded ones" if contested else "")
    )
    return trusted


def main() -> None:
    """Command line."""
    parser = cli.described(__doc__, prog="python -m tools.verify.trust")
    commands = parser.add_subparsers(dest="command", required=True)
    signing = commands.add_parser("sign", help="sign your statement about a commit")
    signing.add_argument("--who", default=statement.who(), help="whose (default: %(default)s)")
    signing.add_argument("--key", help="your SSH key (default: the one that Git signs with, or ~/.ssh/id_*)")
    counting = commands.add_parser("count", help="count the signers who saw the same bytes; fail below --least")
    counting.add_argument("--least", type=int, default=2, help="how many are enough (default: %(default)s)")
    for command in (signing, counting):
        command.add_argument("--rev", default="HEAD", help="branch, tag or commit (default: what is checked out)")
    args = parser.parse_args()
    commit = commit_of(args.rev)
    if args.command == "sign":
        sign(statement.path_of(commit, args.who), os.path.expanduser(args.key or own_key()))
        return
    if args.least < 1:
        raise UserError(f"K is {args.least}; at least one signer is needed to trust anything")
    if not SIGNERS.is_file():
        raise UserError(f"{SIGNERS}: no such file; docs/trust.md says how to list whom you trust")
    sys.exit(0 if count(commit, args.least, SIGNERS) else 1)


if __name__ == "__main__":
    cli.run(main)

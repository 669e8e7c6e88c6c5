"""`make sign` and `make trust` with three people's SSH keys: who counts, and who is refused, by name."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stages.common.cli import UserError
from tests.project import Project as Copy
from tools.verify import statement, trust

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs OpenSSH's ssh-keygen")

LOCK = """
schema: '2.0'
stages:
  train:
    cmd: python train.py
    outs: [{path: models/a.keras, md5: 0}, {path: metrics/plots, md5: 1}]
"""
PLOTS = ("metrics/plots/a.png", "metrics/plots/b.png")
PEOPLE = ("alice", "bob", "carol")


class Project(Copy):
    """A copy of this project with a commit that records two outputs, and three people's keys."""

    def __init__(self, folder: Path, home: Path):
        super().__init__(folder, home)
        self.home = home
        shutil.rmtree(folder / "verification")
        (folder / "dvc.lock").write_text(LOCK)
        self.commit("two outputs")
        for person in PEOPLE:
            self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", str(home / person))

    def commit(self, message: str) -> None:
        super().commit(message)
        self.head = self.run("git", "rev-parse", "HEAD").strip()
        self.statements = self.folder / "verification" / self.head

    def allow(self, *people: str, options: str = "") -> None:
        keys = [(self.home / f"{person}.pub").read_text() for person in people]
        lines = [f"{person}@example.org {options} {key}" for person, key in zip(people, keys, strict=True)]
        path = self.folder / "verification/allowed_signers"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.writelines(lines)

    def state(self, who: str, processor: str = "P 1", reproduced: str = "bits", **digests: str) -> Path:
        """Write a statement; `digests` are those of files that it saw otherwise, by stem, or None for one left out."""
        names = ("models/a.keras", *PLOTS)
        seen = {name: digests.get(Path(name).stem, sha256(name.encode()).hexdigest()) for name in names}
        seen |= {"dvc.lock": digests.get("dvc", sha256(LOCK.encode()).hexdigest())}
        here = statement.Machine(processor=processor, instruction_sets=[], architecture="x", system="L", kernel="6")
        predicate = statement.Predicate(commit=self.head, reproduced=reproduced, verdict=f"reproduced: {reproduced}",
                                        not_promised=[], machine=here, python="3.12", locks={})  # fmt: skip
        path = self.statements / f"{who}.json"
        statement.write(statement.make(predicate, {name: one for name, one in seen.items() if one}), path)
        return path

    def sign(self, who: str, key: str | None = None, status: int = 0) -> str:
        command = [sys.executable, "-m", "tools.verify.trust", "sign", "--who", who, "--key", self.home / (key or who)]
        return self.run(*map(str, command), status=status)

    def sign_as_it_is(self, who: str, namespace: str = trust.NAMESPACE) -> None:
        """Sign a file as `make sign` does, also one that it would refuse, or for another purpose."""
        path = self.statements / f"{who}.json"
        path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
        self.run("ssh-keygen", "-Y", "sign", "-q", "-f", str(self.home / who), "-n", namespace, str(path))

    def state_and_sign(self, *people: str, **seen: str) -> None:
        for person in people:
            self.state(person, **seen)
            self.sign_as_it_is(person)

    def trust(self, least: int, status: int = 0) -> list[str]:
        command = [sys.executable, "-m", "tools.verify.trust", "count", "--least", str(least)]
        return self.run(*command, status=status).splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("home"))


@pytest.fixture
def project(made) -> Iterator[Project]:
    yield made
    shutil.rmtree(made.folder / "verification", ignore_errors=True)


def test_two_of_three_agree_and_the_third_is_named_with_what_differs(project):
    project.allow(*PEOPLE)
    project.state("alice", processor="P 1")
    project.sign("alice")
    project.state_and_sign("bob", processor="P 2")
    project.state_and_sign("carol", processor="P 3", reproduced="tolerance", b="1" * 64)
    *lines, last = project.trust(2)
    assert lines == [
        "alice@example.org on P 1: reproduced: bits",
        "bob@example.org on P 2: reproduced: bits",
        "carol@example.org on P 3: reproduced: tolerance; other bytes: metrics/plots/b.png",
    ]
    assert last.startswith("trusted: 2 signer(s)") and "on 2 kind(s) of processor" in last
    assert project.trust(3, status=1)[-1].startswith("not trusted: 2 signer(s)")


def test_signers_who_saw_the_same_bytes_within_tolerance_do_not_count(project):
    project.allow(*PEOPLE)
    project.state_and_sign("alice")
    project.state_and_sign("bob", "carol", reproduced="tolerance", b="1" * 64)
    *lines, last = project.trust(2, status=1)
    assert lines[1:] == [
        f"{person}@example.org on P 1: reproduced: tolerance; other bytes: metrics/plots/b.png" for person in PEOPLE[1:]
    ]
    assert last.startswith("not trusted: 1 signer(s)")


def test_the_verdict_of_another_commit_says_nothing_about_this_one(project):
    project.allow("alice", "bob")
    project.state_and_sign("alice", "bob")
    replayed = project.statements
    project.commit("another")
    shutil.copytree(replayed, project.statements)
    *lines, last = project.trust(1, status=1)
    assert lines == [f"refused: {who}.json is about another commit, {replayed.name[:12]}" for who in ("alice", "bob")]
    assert last.startswith("not trusted: 0 signer(s)")


def test_the_same_signer_counts_once(project):
    project.allow("alice", "bob")
    for name in ("laptop", "cluster", "alice"):
        project.state(name, processor=name)
        project.sign(name, key="alice")
    assert project.trust(2, status=1)[-1].startswith("not trusted: 1 signer(s)")
    assert "on 3 kind(s) of processor" in project.trust(1)[-1]


def tamper(project: Project) -> None:
    path = project.statements / "bob.json"
    path.write_text(path.read_text().replace("reproduced: bits", "reproduced: to the bit"))


def damage(project: Project) -> None:
    (project.statements / "bob.json.sig").write_text("-----BEGIN SSH SIGNATURE-----")


def swap(project: Project) -> None:
    project.state("carol", processor="P 3")
    project.sign("carol", key="bob")
    (project.statements / "carol.json").unlink()
    (project.statements / "carol.json.sig").replace(project.statements / "bob.json.sig")


def other_namespace(project: Project) -> None:
    project.sign_as_it_is("bob", "git")


def lead_elsewhere(project: Project) -> None:
    (project.statements / "bob.json").unlink()
    (project.statements / "bob.json").symlink_to("/dev/zero")


def make_huge(project: Project) -> None:
    (project.statements / "bob.json").write_bytes(b" " * (statement.MAX_BYTES + 1))


def nest(project: Project) -> None:
    (project.statements / "bob.json").write_text("[" * 1_000_000)
    project.sign_as_it_is("bob")


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (tamper, "is not what bob@example.org signed: it was changed afterwards, or the signature is another's"),
        (swap, "is not what bob@example.org signed: it was changed afterwards, or the signature is another's"),
        (damage, "has a damaged signature"),
        (other_namespace, "is signed by bob@example.org for another purpose than"),
        (lambda project: project.sign("bob", key="carol"), "is signed by a key that allowed_signers does not list"),
        (lambda project: (project.statements / "bob.json.sig").unlink(), "is not signed; `make sign` signs your own"),
        (lead_elsewhere, "is no file"),
        (make_huge, "is larger than 16 MiB"),
        (nest, "is no statement"),
    ],
    ids=["tampered", "another's signature", "damaged", "namespace", "not allowed", "unsigned", "link", "huge", "deep"],
)
def test_what_does_not_count_is_refused_by_name(project, attack, reason):
    project.allow("alice", "bob")
    project.state_and_sign("alice", "bob")
    project.trust(2)
    attack(project)
    good, refused, last = project.trust(2, status=1)
    assert good == "alice@example.org on P 1: reproduced: bits"
    assert refused.startswith(f"refused: bob.json {reason}")
    assert last.startswith("not trusted: 1 signer(s)")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('valid-before="20200101"', r"is signed by a key that is out of date \(.* valid-before 2020-01-01"),
        ('valid-after="20990101"', r"is signed by a key that is out of date \(.* valid-after 2099-01-01"),
        ('namespaces="git,mail"', "is signed by bob@example.org, whom allowed_signers does not list for rerun@"),
        ("no-such-option", r"is signed by a key that allowed_signers does not list \(.*:2: bad options: unknown"),
        ("cert-authority", "is signed by a key that allowed_signers does not list$"),
    ],
)
def test_a_line_of_the_list_that_does_not_allow_a_statement_is_told(project, options, reason):
    project.allow("alice")
    project.allow("bob", options=options)
    project.state_and_sign("alice", "bob")
    _, refused, last = project.trust(2, status=1)
    assert re.match(f"refused: bob.json {reason}", refused)
    assert last.startswith("not trusted: 1 signer(s)")


def test_one_line_of_the_list_that_allows_a_key_is_enough(project):
    project.allow("alice", options='namespaces="git,rerun@*",valid-after="20200101"')
    key = (project.home / "bob.pub").read_text()
    for line in ('bob@old valid-before="20200101"', "!bob,*@example.org"):
        with (project.folder / "verification/allowed_signers").open("a") as file:
            file.write(f"{line} {key}")
    project.state_and_sign("alice", "bob")
    assert project.trust(2)[1] == "*@example.org on P 1: reproduced: bits"


def test_the_name_of_a_file_cannot_look_like_a_line_of_the_verdict(project):
    project.allow("alice")
    project.state_and_sign("alice")
    (project.statements / "x\ntrusted: 9 signer(s).json").mkdir()
    _, refused, _ = project.trust(1)
    assert refused == "refused: x?trusted: 9 signer(s).json is no file"


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"dvc": "1" * 64}, "is about another dvc.lock than this commit has"),
        ({"a": None}, "does not name models/a.keras, which dvc.lock records"),
    ],
)
def test_a_signed_statement_must_be_about_all_that_the_commit_records(project, seen, reason):
    project.allow("alice")
    project.state_and_sign("alice", **seen)
    assert project.trust(1, status=1)[0] == f"refused: alice.json {reason}"


def test_signers_who_contradict_one_another_are_not_trusted(project):
    project.allow(*PEOPLE)
    project.state_and_sign("alice")
    project.state_and_sign("bob", b="1" * 64)
    *lines, last = project.trust(1, status=1)
    assert "bob@example.org on P 1: reproduced: bits; other bytes: metrics/plots/b.png" in lines
    assert last.startswith("not trusted: 1 signer(s)") and "as many say" in last
    project.state_and_sign("carol")
    assert project.trust(2)[-1].startswith("trusted: 2 signer(s)")


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"Zo\xeb-"])
def test_names_in_the_list_may_have_what_an_editor_on_windows_writes(project, prefix):
    """A mark before the first line, so that the signer of two keys had two names, or letters in Latin-1."""
    project.allow("alice", "bob")
    path = project.folder / "verification/allowed_signers"
    first, second = path.read_bytes().replace(b"bob@", b"alice@").splitlines(keepends=True)
    path.write_bytes(prefix + first + (second if prefix[0] == 0xEF else prefix + second))
    project.state_and_sign("alice", "bob")
    assert project.trust(2, status=1)[-1].startswith("not trusted: 1 signer(s)")
    project.trust(1)


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="needs OpenSSH's ssh-agent")
@pytest.mark.parametrize("prefix", ["", "key::"])
def test_the_key_that_git_signs_with_may_be_a_public_key_itself(project, prefix):
    project.allow("alice")
    project.state("alice")
    public, sign = (project.home / "alice.pub").read_text().strip(), f"{sys.executable} -m tools.verify.trust sign"
    project.run("git", "config", "user.signingKey", prefix + public)
    project.run("ssh-agent", "sh", "-c", f"ssh-add -q {project.home}/alice && {sign} --who alice")
    project.run("git", "config", "--unset", "user.signingKey")
    project.trust(1)


def test_what_is_needed_and_missing_is_said(project):
    assert "verification/allowed_signers: no such file" in project.trust(1, status=1)[0]
    assert "alice.json: no such statement; `make verify` makes it" in project.sign("alice", status=1)
    project.state("alice")
    assert "cannot sign with" in project.sign("alice", key="nobody", status=1)
    project.allow("alice")
    assert project.trust(0, status=1) == ["error: K is 0; at least one signer is needed to trust anything"]


def test_a_signature_stays_with_the_same_statement_and_goes_with_another(project):
    path = project.state("alice")
    project.sign("alice")
    assert project.state("alice") == path
    assert path.with_name("alice.json.sig").is_file()
    project.state("alice", processor="P 2")
    assert not path.with_name("alice.json.sig").exists()


@pytest.mark.parametrize("change", [
    {"_type": "https://in-toto.io/Statement/v2"}, {"subject": [{"name": "a", "digest": {"sha256": "short"}}]},
    {"subject": [{"name": "a", "digest": {"sha256": "1" * 64}}] * 2}, {"predicate": {}},
])  # fmt: skip
def test_a_malformed_statement_is_an_error_for_a_person(project, change):
    content = json.loads(project.state("alice").read_bytes())
    with pytest.raises(UserError, match="is no statement|names a more than once"):
        statement.parse(json.dumps(content | change).encode())


@pytest.mark.parametrize(("who", "name"), [("a@b.org", "a@b.org"), ("../x y", "_._x_y"), (".x", "_x")])
def test_a_name_stays_in_its_folder(who, name):
    assert statement.path_of("0" * 40, who) == statement.FOLDER / ("0" * 40) / f"{name}.json"


def test_an_empty_address_is_no_name(monkeypatch):
    for name, value in {"COUNT": "1", "KEY_0": "user.email", "VALUE_0": ""}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert statement.who()

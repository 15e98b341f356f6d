"""Revisions and their clones, on small real git repositories."""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock, Timeout

import pipelines
from pipelines.errors import PipelineError
from segpipe.errors import CommandError
from segpipe.project import DvcConfig, is_published

SOURCES = Path(pipelines.__file__).parent
PROGRAMS = Path(sys.executable).parent
PARAMS, LOCK = "train: {}\n", "schema: '2.0'\n"


def git(where: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True).stdout.strip()


def commit(where: Path, files: dict[str, str], message: str = "a change") -> str:
    for name, text in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text, encoding="utf-8")
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "--message", message)
    return git(where, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc-site"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's clone: branch main with a recipe, a local branch, a tag; its origin is `origin`."""
    root = tmp_path / "home"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    ignored = "/.venv\n/clones/\n/.locks/\n__pycache__/\n/pipelines/\n"
    files = {".gitignore": ignored, "params.yaml": PARAMS, "dvc.lock": LOCK, "requirements.lock": "# none\n"}
    commit(root, {**files, "recipes/camvid.yaml": "train: {epochs: 9}\n", "recipes/README.md": "About.\n"}, "first")
    git(root, "tag", "v1")
    git(root, "checkout", "--quiet", "-b", "feature")
    commit(root, {"feature.txt": "x"})
    git(root, "checkout", "--quiet", "main")
    git(root, "init", "--quiet", "--bare", str(tmp_path / "origin"))
    git(root, "remote", "add", "origin", str(tmp_path / "origin"))
    git(root, "push", "--quiet", "origin", "main")
    (root / ".venv").symlink_to(PROGRAMS.parent)
    return root


@pytest.fixture
def workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as that clone has it: its folder is where its file lies."""
    shutil.copytree(SOURCES, home / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    spec = importlib.util.spec_from_file_location("workspace_of_home", home / "pipelines/workspace.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert home == module.HOME
    return module


@pytest.fixture
def colleague(home: Path, tmp_path: Path) -> Path:
    """Another clone of the same origin."""
    git(tmp_path, "clone", "--quiet", "--branch", "main", str(tmp_path / "origin"), "colleague")
    return tmp_path / "colleague"


@pytest.mark.parametrize("name", ["main", "feature", "v1", "origin/main"])
def test_a_branch_or_a_tag_is_its_commit(workspace: ModuleType, home: Path, name: str) -> None:
    (home / "params.yaml").write_text("changed", encoding="utf-8")  # no business of a named revision
    assert workspace.find_revision(name, None) == workspace.Revision(name, git(home, "rev-parse", f"{name}^{{commit}}"))


@pytest.mark.parametrize("num_digits", [8, 40])
def test_a_commit_is_found_by_its_digits(workspace: ModuleType, home: Path, num_digits: int) -> None:
    sha = git(home, "rev-parse", "feature")
    assert workspace.find_revision(sha[:num_digits], None).sha == sha


def test_an_annotated_tag_is_the_commit_that_it_is_at(workspace: ModuleType, home: Path) -> None:
    git(home, "tag", "--annotate", "--message", "a release", "v2", "feature")
    assert workspace.find_revision("v2", None).sha == git(home, "rev-parse", "feature")


def test_the_clone_without_changes_is_its_commit(workspace: ModuleType, home: Path) -> None:
    found = workspace.find_revision("current", None)
    assert found == workspace.Revision("current", git(home, "rev-parse", "HEAD"))
    assert found.is_here
    assert found.label == found.sha[:12]


def test_the_clones_changes_are_named_whether_tracked_or_not(workspace: ModuleType, home: Path) -> None:
    (home / "params.yaml").write_text("changed", encoding="utf-8")
    (home / "data/images").mkdir(parents=True)
    (home / "data/images/new.png").touch()
    found = workspace.find_revision("current", None)
    assert set(found.changes) == {"params.yaml", "data/images/new.png"}
    assert found.label == f"{found.sha[:12]}+changes"


def test_a_lock_that_is_not_committed_is_no_change(workspace: ModuleType, home: Path) -> None:
    # dvc.lock tells results; it is what a retraining changes itself.
    (home / "dvc.lock").write_text("other results", encoding="utf-8")
    assert workspace.find_revision("current", None).changes == ()


def test_an_unknown_revision_is_refused_with_what_there_is(workspace: ModuleType, home: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        workspace.find_revision("mian", None)
    message = str(caught.value)
    assert message.startswith(f"revision 'mian' is neither in {home} nor at its origin; push it, or ")
    assert "main" in message
    assert "feature" in message
    assert message.endswith("'current'")


@pytest.mark.parametrize("name", ["--since=yesterday", "main:params.yaml", "main~99", "0" * 40, "main^{tree}"])
def test_a_name_that_is_no_commit_is_refused_whatever_git_would_make_of_it(workspace: ModuleType, name: str) -> None:
    with pytest.raises(PipelineError, match="push it, or"):
        workspace.find_revision(name, None)


def test_what_was_pushed_wins_over_the_older_local_branch(workspace: ModuleType, home: Path, colleague: Path) -> None:
    old = git(home, "rev-parse", "main")
    new = commit(colleague, {"data.dvc": "new labels"})
    git(colleague, "push", "--quiet", "origin", "main")
    assert workspace.find_revision("main", None).sha == new
    assert git(home, "rev-parse", "main") == old, "the user's branch stays where it is"


def test_a_branch_and_a_tag_that_only_the_origin_has_are_fetched(
    workspace: ModuleType, home: Path, colleague: Path
) -> None:
    sha = commit(colleague, {"data.dvc": "new labels"})
    git(colleague, "push", "--quiet", "origin", "main:labels")
    assert workspace.find_revision("labels", None).sha == sha
    # A tag next to all branches.
    sha = commit(colleague, {"data.dvc": "newer labels"})
    git(colleague, "tag", "v3")
    git(colleague, "push", "--quiet", "origin", "v3")
    assert workspace.find_revision("v3", None).sha == sha


def test_an_origin_that_cannot_be_reached_is_no_obstacle(workspace: ModuleType, home: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "origin")
    assert workspace.find_revision("feature", None).sha == git(home, "rev-parse", "feature")


def test_a_recipe_belongs_to_the_revision(workspace: ModuleType, home: Path) -> None:
    found = workspace.find_revision("main", "camvid")
    assert found.recipe == "camvid"
    assert found.label == f"{found.sha[:12]} camvid"
    here = workspace.find_revision("current", "camvid")
    assert not here.is_here, "the clone's own params.yaml is not to be written over"


def test_an_unknown_recipe_is_refused_with_those_of_the_revision(workspace: ModuleType, home: Path) -> None:
    (home / "recipes/later.yaml").touch()
    with pytest.raises(PipelineError, match=r"^recipes/later\.yaml is not in [0-9a-f]{12}; .* camvid$"):
        workspace.find_revision("main", "later")


@pytest.mark.parametrize("recipe", ["../params", "README", "camvid.yaml"])
def test_a_recipe_is_a_name_and_no_path(workspace: ModuleType, recipe: str) -> None:
    with pytest.raises(PipelineError, match="camvid"):
        workspace.find_revision("main", recipe)


def test_a_recipe_may_have_a_name_in_any_letters(workspace: ModuleType, home: Path) -> None:
    commit(home, {"recipes/straße zwei.yaml": PARAMS})
    assert workspace.find_revision("current", "straße zwei").recipe == "straße zwei"


def test_two_recipes_never_share_a_clone(workspace: ModuleType) -> None:
    recipes = [None, "a_b", "a b", "a+b", "a.b"]
    names = [workspace._name_of_clone(workspace.Revision("main", "c0ffee" * 7, recipe)) for recipe in recipes]
    assert len(set(names)) == len(recipes)
    assert names[:2] == ["c0ffeec0ffee", "c0ffeec0ffee-a_b"]
    assert not [name for name in names if {"/", " "} & set(name)]


def test_a_recipe_is_not_run_beside_changes_that_are_not_committed(workspace: ModuleType, home: Path) -> None:
    (home / "params.yaml").write_text("changed", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"a recipe is run on a commit, .*: params\.yaml; commit them, or leave"):
        workspace.find_revision("current", "camvid")


def make_clone(workspace: ModuleType, name: str, recipe: str | None = None) -> Path:
    lines: list[str] = []
    return workspace.open_workspace(workspace.find_revision(name, recipe), lines.append).root


@pytest.fixture
def dvc_home(home: Path) -> Path:
    """The user's clone with DVC, so that clones of it can be made."""
    subprocess.run([PROGRAMS / "dvc", "init", "--quiet"], cwd=home, check=True, capture_output=True)
    git(home, "add", "--all")
    git(home, "commit", "--quiet", "--message", "DVC")
    git(home, "push", "--quiet", "origin", "main")
    return home


def test_the_current_clone_is_worked_on_in_place(workspace: ModuleType, home: Path) -> None:
    opened = workspace.open_workspace(workspace.find_revision("current", None), print)
    assert opened == workspace.Workspace(home, home / ".venv/bin", None)
    assert not (home / "clones").exists()


def test_a_revision_gets_a_clone_of_its_own_that_shares_the_cache(workspace: ModuleType, dvc_home: Path) -> None:
    (dvc_home / ".dvc/config.local").write_text("[core]\n    remote = secret\n", encoding="utf-8")
    root = make_clone(workspace, "main", "camvid")
    assert root.parent == dvc_home / "clones"
    assert git(root, "rev-parse", "HEAD") == git(dvc_home, "rev-parse", "main")
    assert (root / "params.yaml").read_text() == (dvc_home / "recipes/camvid.yaml").read_text()
    cache = subprocess.run([PROGRAMS / "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=True)
    assert (root / cache.stdout.strip()).resolve() == dvc_home / ".dvc/cache"
    assert workspace._default_remote(root) == "secret", "credentials come along"
    # The user's own files are as before, and the same clone serves again.
    assert (dvc_home / "params.yaml").read_text() == PARAMS
    (root / "mark").touch()
    assert make_clone(workspace, "main", "camvid") == root
    assert (root / "mark").exists()
    assert make_clone(workspace, "main") != root


def test_only_the_owner_can_read_a_clones_secrets(workspace: ModuleType, dvc_home: Path) -> None:
    settings = dvc_home / ".dvc/config.local"
    settings.write_text("['remote \"team\"']\n    url = ssh://host/data\n    password = secret\n", encoding="utf-8")
    settings.chmod(0o600)
    umask = os.umask(0o022)
    try:
        copied = make_clone(workspace, "main") / ".dvc/config.local"
    finally:
        os.umask(umask)
    assert "secret" in copied.read_text(encoding="utf-8")
    assert copied.stat().st_mode & 0o777 == 0o600
    # A new password comes to the clones that are there, and the cache stays the same.
    settings.write_text(settings.read_text(encoding="utf-8").replace("secret", "renewed"), encoding="utf-8")
    again = DvcConfig(make_clone(workspace, "main"))
    assert again["'remote \"team\"'"]["password"] == "renewed"
    assert again["cache"]["dir"] == str(dvc_home / ".dvc/cache")
    assert copied.stat().st_mode & 0o777 == 0o600


def test_a_remote_next_to_the_users_clone_is_the_same_for_a_clone_of_it(
    workspace: ModuleType, home: Path, tmp_path: Path
) -> None:
    root = home / "clones/x"
    shared = "['remote \"near\"']\n    url = ../../store\n['remote \"far\"']\n    url = s3://bucket/a\n"
    for folder, name, text in (
        (home, "config", shared),
        (root, "config", shared),
        (home, "config.local", '[\'remote "far"\']\n    credentialpath = "../a, b"\n    configpath = ~/aws\n'),
        (root, "config.local", f"[cache]\n    dir = {tmp_path}\n"),
    ):
        (folder / ".dvc").mkdir(parents=True, exist_ok=True)
        (folder / ".dvc" / name).write_text(text, encoding="utf-8")
    workspace._bring_dvc_settings(root)
    settings = DvcConfig(root)
    assert settings["'remote \"near\"'"]["url"] == str(tmp_path / "store")
    far = dict(settings["'remote \"far\"'"])
    assert far == {"url": "s3://bucket/a", "credentialpath": f'"{home}/a, b"', "configpath": "~/aws"}


def test_what_the_origins_branches_hold_counts_as_published_in_a_clone_too(
    workspace: ModuleType, dvc_home: Path, colleague: Path
) -> None:
    git(colleague, "pull", "--quiet")
    pushed = commit(colleague, {"new.txt": "x"})
    git(colleague, "push", "--quiet", "origin", "main:theirs")
    kept = git(dvc_home, "commit-tree", "-p", "HEAD", "-m", "not on a branch", "HEAD^{tree}")
    root = make_clone(workspace, "theirs")
    assert git(root, "rev-parse", "HEAD") == pushed
    assert is_published(root, pushed)
    assert not is_published(root, kept)


def test_a_clone_that_was_half_made_is_made_again(workspace: ModuleType, dvc_home: Path) -> None:
    sha = git(dvc_home, "rev-parse", "main")
    part = dvc_home / f"clones/.{sha[:12]}.part"
    part.mkdir(parents=True)
    (part / "half").touch()
    root = make_clone(workspace, "main")
    assert not part.exists()
    assert not (root / "half").exists()
    assert (root / "params.yaml").exists()


def make_old_clones(home: Path, number: int) -> list[Path]:
    clones = [home / f"clones/{name:012d}" for name in range(number)]
    for age, clone in enumerate(reversed(clones)):
        (clone / ".locks").mkdir(parents=True)
        then = time.time() - 1000 * (age + 1)
        os.utime(clone, (then, then))
    return clones


def test_the_oldest_clones_make_room_for_a_new_one(workspace: ModuleType, dvc_home: Path) -> None:
    clones = make_old_clones(dvc_home, workspace.MAX_CLONES + 1)
    new = make_clone(workspace, "main")
    assert [clone.exists() for clone in clones] == [False, False, *[True] * (workspace.MAX_CLONES - 1)]
    assert new.exists()


def test_a_clone_in_which_a_retraining_works_stays(workspace: ModuleType, dvc_home: Path) -> None:
    clones = make_old_clones(dvc_home, workspace.MAX_CLONES + 1)
    with workspace.Workspace(clones[0], PROGRAMS, None).alone(print):
        make_clone(workspace, "main")
    assert clones[0].exists()
    assert not clones[1].exists()


def test_a_clone_that_is_being_opened_stays(workspace: ModuleType, home: Path) -> None:
    clones = make_old_clones(home, workspace.MAX_CLONES + 1)
    with FileLock(workspace._opening_lock(clones[0])):
        workspace._remove_old_clones(home / "clones")
    assert clones[0].exists()
    assert not clones[1].exists()


def test_what_a_kill_leaves_of_an_old_clone_is_taken_for_no_clone(
    workspace: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_killed(folder: Path, **_: object) -> None:
        if folder.exists():
            raise SystemExit

    clones = make_old_clones(home, workspace.MAX_CLONES + 1)
    with monkeypatch.context() as patch:
        patch.setattr(workspace.shutil, "rmtree", be_killed)
        with pytest.raises(SystemExit):
            workspace._remove_old_clones(home / "clones")
    assert not clones[0].exists()


def test_one_retraining_at_a_time_sets_up_an_environment(
    workspace: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = workspace.find_revision("main", None)
    root = home / "clones" / workspace._name_of_clone(revision)
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config.local").write_text("[cache]\n    dir = /c\n", encoding="utf-8")
    (root / "requirements.lock").write_text("other==1\n", encoding="utf-8")
    git(root, "init", "--quiet")
    made = []

    def make(command: list[str], **_: object) -> None:
        with pytest.raises(Timeout), FileLock(workspace._opening_lock(root), timeout=0):
            pass
        made.append(command)

    monkeypatch.setattr(workspace, "run", make)
    assert workspace.open_workspace(revision, print).bin == root / ".venv/bin"
    assert made == [["make", "setup"]]


@pytest.fixture
def here(home: Path, workspace: ModuleType) -> object:
    """The user's clone as a workspace."""
    return workspace.Workspace(home, home / ".venv/bin", None)


def test_a_stage_does_not_learn_that_prefect_is_there(
    workspace: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "f00d")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("PYTHONPATH", str(home))
    monkeypatch.setenv("SHELL", "/bin/zsh")
    environment = workspace.Workspace(home / "clones/x", home / ".venv/bin", None).environment("train")
    assert not [name for name in environment if name.startswith("PREFECT")]
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["PATH"] == f"{home}/.venv/bin:/usr/bin"
    assert environment["PYTHONPATH"] == f"{home}/clones/x/src"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["SHELL"] == f"{home}/pipelines/only_stage.sh"
    assert environment["SEGPIPE_STAGE"] == "train"
    assert os.environ["PREFECT_API_URL"], "the flow's own environment stays"


def test_without_a_server_runs_go_to_the_users_own_store(
    workspace: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    environment = workspace.Workspace(home / "clones/x", home / ".venv/bin", None).environment("")
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{home}/mlflow.db"


def test_a_second_retraining_waits_for_the_first(
    workspace: ModuleType, here: "object", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "RETRAIN_POLL_SECONDS", 0.05)
    events: list[str] = []
    is_told = threading.Event()

    def tell(line: str) -> None:
        assert "another retraining is running in" in line
        events.append("second waits")
        is_told.set()

    def work() -> None:
        with here.alone(tell):  # type: ignore[attr-defined]
            events.append("second works")

    second = threading.Thread(target=work)
    with here.alone(tell):  # type: ignore[attr-defined]
        second.start()
        assert is_told.wait(20)
        events.append("first ends")
    second.join(20)
    assert events == ["second waits", "first ends", "second works"]


def test_a_retraining_that_fails_lets_the_next_one_work(here: "object", home: Path) -> None:
    with pytest.raises(ZeroDivisionError), here.alone(print):  # type: ignore[attr-defined]
        raise ZeroDivisionError
    with FileLock(home / ".locks/retrain.lock", timeout=0):
        pass


def state_of(home: Path) -> tuple[str, ...]:
    """All that a user would notice: branch, index, working tree."""
    return (
        git(home, "rev-parse", "--abbrev-ref", "HEAD"),
        git(home, "rev-parse", "HEAD"),
        git(home, "ls-files", "--stage"),
        git(home, "status", "--porcelain"),
        (home / "dvc.lock").read_text(),
        (home / "params.yaml").read_text(),
    )


@pytest.fixture
def results(home: Path) -> Path:
    """The user's clone after a retraining; the user is in the middle of something else."""
    (home / ".locks").mkdir()
    (home / "dvc.lock").write_text("new results", encoding="utf-8")
    (home / "staged.txt").write_text("staged", encoding="utf-8")
    git(home, "add", "staged.txt")
    return home


def test_the_lock_goes_to_a_new_branch_and_nothing_of_the_user_changes(workspace: ModuleType, results: Path) -> None:
    revision, before = workspace.Revision("current", git(results, "rev-parse", "HEAD")), state_of(results)
    sha = workspace.commit_lock(results, revision, "results")
    assert git(results, "rev-parse", "results") == sha
    assert git(results, "rev-parse", "results^") == revision.sha
    assert git(results, "diff", "--name-only", revision.sha, "results") == "dvc.lock"
    assert git(results, "show", "results:dvc.lock") == "new results"
    assert git(results, "log", "-1", "--format=%s", "results") == f"Results of {revision.sha[:12]}"
    assert state_of(results) == before


def test_a_recipes_parameters_are_committed_with_its_results(workspace: ModuleType, results: Path) -> None:
    (results / "params.yaml").write_text("the recipe's", encoding="utf-8")
    sha = git(results, "rev-parse", "HEAD")
    workspace.commit_lock(results, workspace.Revision("main", sha, "camvid"), "results")
    assert git(results, "diff", "--name-only", sha, "results").split() == ["dvc.lock", "params.yaml"]
    workspace.commit_lock(results, workspace.Revision("main", sha), "without")
    assert git(results, "diff", "--name-only", sha, "without").split() == ["dvc.lock"]


def test_results_of_files_that_were_changed_meanwhile_are_not_committed(workspace: ModuleType, home: Path) -> None:
    revision = workspace.Revision("current", git(home, "rev-parse", "HEAD"))
    stage = "{deps: [{path: recipes}], params: {params.yaml: {train: {}}}}"
    (home / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  train: {stage}\n", encoding="utf-8")
    (home / ".gitignore").write_text("# no dependency\n", encoding="utf-8")
    (home / ".locks").mkdir()
    assert workspace.commit_lock(home, revision, "unchanged")
    for change in ("changed", "committed"):
        (home / "params.yaml").write_text(change, encoding="utf-8")
        if change == "committed":
            git(home, "commit", "--quiet", "--message", change, "params.yaml")
        with pytest.raises(PipelineError, match=r"^params\.yaml in .* were changed during the retraining"):
            workspace.commit_lock(home, revision, "results")
    assert git(home, "branch", "--list", "results") == ""


def test_nothing_is_committed_where_nothing_has_changed(workspace: ModuleType, results: Path) -> None:
    (results / "dvc.lock").write_text(LOCK, encoding="utf-8")
    revision = workspace.Revision("current", git(results, "rev-parse", "HEAD"))
    assert workspace.commit_lock(results, revision, "results") is None
    assert git(results, "branch", "--list", "results") == ""


def test_a_branch_follows_the_revisions_and_is_never_rewound(workspace: ModuleType, results: Path) -> None:
    old = workspace.Revision("current", git(results, "rev-parse", "HEAD"))
    sha = workspace.commit_lock(results, old, "results")
    (results / "dvc.lock").write_text("newer results", encoding="utf-8")
    newer = workspace.commit_lock(results, workspace.Revision("results", sha), "results")
    assert git(results, "rev-parse", "results^") == sha

    # A revision without the results of the last one: both are parents, the files are the revision's.
    (results / "dvc.lock").write_text("results of the old revision", encoding="utf-8")
    workspace.check_branch(old, "results")
    last = workspace.commit_lock(results, old, "results")
    assert git(results, "rev-parse", "results") == last
    assert git(results, "rev-parse", "results^1", "results^2").split() == [newer, old.sha]
    assert git(results, "diff", "--name-only", old.sha, "results") == "dvc.lock"
    assert git(results, "show", "results:dvc.lock") == "results of the old revision"
    assert workspace.commit_lock(results, old, "results") is None


def test_a_checked_out_branch_stays_even_without_an_earlier_check(workspace: ModuleType, results: Path) -> None:
    revision, before = workspace.Revision("current", git(results, "rev-parse", "HEAD")), state_of(results)
    with pytest.raises(CommandError, match="refusing to update checked out branch"):
        workspace.commit_lock(results, revision, "main")
    assert state_of(results) == before


@pytest.mark.parametrize(
    ("branch", "problem"),
    [
        ("main", "it is checked out in "),
        ("feature", "it has commits that [0-9a-f]{12} does not contain"),
        ("no branch name", ""),
        ("taken", "git cannot keep it next to taken/by; use another branch"),
        ("feature/x", "git cannot keep it next to feature; use another branch"),
    ],
)
def test_a_branch_that_could_not_take_the_results_is_refused_before_hours_of_training(
    workspace: ModuleType, home: Path, branch: str, problem: str
) -> None:
    git(home, "branch", "taken/by")
    revision = workspace.find_revision("main", None)
    with pytest.raises(PipelineError, match=f"^dvc.lock cannot be committed to branch '{branch}': {problem}"):
        workspace.check_branch(revision, branch)


def test_results_of_what_is_not_committed_are_not_committed(workspace: ModuleType, home: Path) -> None:
    (home / "data.dvc").touch()
    with pytest.raises(PipelineError, match=r"data\.dvc in .* are not committed; commit them, or leave commit_to out"):
        workspace.check_branch(workspace.find_revision("current", None), "results")


def test_a_new_branch_and_one_that_the_revision_contains_can_take_the_results(
    workspace: ModuleType, home: Path
) -> None:
    git(home, "branch", "older", "v1")
    for branch in ("new", "older"):
        workspace.check_branch(workspace.find_revision("feature", None), branch)


def test_results_of_a_clone_come_to_a_branch_of_the_users_clone(
    workspace: ModuleType, home: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(home), "clone")
    (tmp_path / "clone/.locks").mkdir()
    (tmp_path / "clone/dvc.lock").write_text("new results", encoding="utf-8")
    sha = workspace.commit_lock(tmp_path / "clone", workspace.Revision("v1", git(home, "rev-parse", "v1")), "results")
    assert git(home, "rev-parse", "results") == sha


@pytest.mark.parametrize(
    ("shared", "local", "remote"),
    [
        (None, None, None),
        ("[core]\n    analytics = false\n", None, None),
        ("[core]\n    analytics = false\n    remote = store\n['remote \"store\"']\n    url = /x\n", None, "store"),
        ("[core]\n    remote = store\n", "[core]\n    remote = mine\n", "mine"),
        ("[core]\n    remote = store\n", "['remote \"store\"']\n    password = 100%x\n", "store"),
    ],
    ids=["no file", "none set", "shared", "local wins", "local adds"],
)
def test_the_default_remote_is_read_from_both_files(
    workspace: ModuleType, home: Path, shared: str | None, local: str | None, remote: str | None
) -> None:
    (home / ".dvc").mkdir()
    for name, text in (("config", shared), ("config.local", local)):
        if text is not None:
            (home / ".dvc" / name).write_text(text, encoding="utf-8")
    assert workspace._default_remote(home) == remote


def test_the_default_remote_is_that_of_dvc_itself(workspace: ModuleType, dvc_home: Path) -> None:
    for command in (["add", "shared", "/a"], ["add", "--local", "mine", "/b"], ["default", "--local", "mine"]):
        subprocess.run([PROGRAMS / "dvc", "remote", *command], cwd=dvc_home, check=True, capture_output=True)
    told = subprocess.run(
        [PROGRAMS / "dvc", "remote", "default"], cwd=dvc_home, check=True, capture_output=True, text=True
    )
    assert workspace._default_remote(dvc_home) == told.stdout.strip() == "mine"

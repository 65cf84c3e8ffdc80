"""One import root, rooms of a size that one can know, walls between them that hold, and a test for every module."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.support import gpu_box
from tests.support.hostile import NAMES, make_hostile
from tests.support.places import PROJECT

ROOMS = [name for name in NAMES if name not in ("benchmarks", "tests")]
IN_DOCSTRING = re.compile(rf"(?<![\w/.-])(?:{'|'.join(ROOMS)})/[\w/]+\.py\b")
LINT = str(Path(sys.executable).with_name("lint-imports"))


def python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy_of_the_checkout(to: Path) -> Path:
    """What git tracks, without what was made beside it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if not (PROJECT / name).is_symlink() and not (PROJECT / name).is_file():
            continue  # deleted, and not yet so for git
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / name).is_symlink():
            (to / name).symlink_to((PROJECT / name).readlink())
        else:
            (to / name).write_bytes((PROJECT / name).read_bytes())
    return to


def test_every_room_is_reached_through_the_one_import_root() -> None:
    links = {path.name: path.readlink() for path in (PROJECT / "autorecap").iterdir() if path.is_symlink()}
    assert links == {name: Path("..", name) for name in [*ROOMS, "configs"]}


def test_importing_autorecap_brings_neither_torch_nor_ray(tmp_path: Path) -> None:
    heavy = "torch", "ray", "transformers", "pyarrow", "numpy", "pydantic"
    code = f"import sys, autorecap, autorecap.base.errors; print([name for name in {heavy} if name in sys.modules])"
    assert python(code, PROJECT) == "[]\n"


def test_models_need_torch_transformers_and_einops_alone() -> None:
    """GPU machines often have nothing else of what the project depends on."""
    missing = gpu_box.missing_modules()
    assert {"ray", "pyarrow", "pydantic", "soundfile", "yt_dlp", "requests", "fsspec", "diffusers", "PIL"} <= missing
    done = gpu_box.run(f"""
import importlib
for name in {gpu_box.modules_of("models")}:
    importlib.import_module(name)

from autorecap.models.genau.model import GenAu
assert GenAu.new("demo").generate(["rain"], 0.2, num_steps=1)[0].shape == (3_200,)
""")
    assert done.returncode == 0, done.stderr


def test_a_folder_full_of_packages_with_our_names_does_not_get_in_between(tmp_path: Path) -> None:
    folder = make_hostile(tmp_path / "mine")
    done = subprocess.run(
        [sys.executable, "-m", "autorecap", "filter"],
        cwd=folder,
        input="A man speaks as birds sing\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("drop  speaks")


def test_a_checkout_that_lost_its_links_still_finds_its_rooms(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path)
    for link in (checkout / "autorecap").iterdir():
        if link.is_symlink():
            link.unlink()
    found = python("import autorecap.base.errors as found; print(found.__file__)", checkout)
    assert Path(found.strip()) == checkout / "base" / "errors.py"


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("base/text.py", "import autorecap.models.config", "Rooms import those below them"),
        ("dataset/store.py", "import autorecap.pipeline.build.config", "Rooms import those below them"),
        ("pipeline/build/driver.py", "import ray", "Only the cluster knows Ray"),
        ("stages/records.py", "import autorecap.stages.stage", "No circles"),
    ],
)
def test_an_import_through_a_wall_fails_the_check(tmp_path: Path, file: str, line: str, contract: str) -> None:
    checkout = copy_of_the_checkout(tmp_path)
    with (checkout / file).open("a") as code:
        code.write(f"\n{line}  # noqa\n")
    done = subprocess.run([LINT, "--no-cache"], cwd=checkout, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(row.startswith(contract) for row in broken), done.stdout


def test_no_room_holds_a_third_of_the_code_and_no_folder_more_files_than_one_can_look_through() -> None:
    files = [path for room in ROOMS for path in (PROJECT / room).rglob("*.py")]
    lines = Counter(dict.fromkeys(ROOMS, 0))
    for path in files:
        lines[path.relative_to(PROJECT).parts[0]] += path.read_text().count("\n")
    (largest, most), total = lines.most_common(1)[0], lines.total()
    assert most < 0.35 * total, f"{largest} holds {most} of {total} lines"
    modules = Counter(path.parent.relative_to(PROJECT) for path in files if path.name != "__init__.py")
    assert not [f"{folder} holds {count} files" for folder, count in modules.items() if count > 15]


def modules() -> set[str]:
    """Every module of every room, by its path in the project."""
    files = [path for room in ROOMS for path in (PROJECT / room).rglob("*.py")]
    return {str(path.relative_to(PROJECT)) for path in files if not path.name.startswith("__")}


def named_by_tests() -> dict[str, set[str]]:
    """The modules that the docstring of each test file names."""
    found = {}
    for path in (PROJECT / "tests").rglob("test_*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        found[str(path.relative_to(PROJECT))] = set(IN_DOCSTRING.findall(docstring))
    return found


def place_of_test(module: str) -> str:
    """Where the test of a module lies, if it has one of its own."""
    folder, _, name = module.rpartition("/")
    return f"tests/{folder}/test_{name}"


def test_every_module_has_a_test_in_its_place_or_is_named_by_the_one_that_proves_it() -> None:
    named = named_by_tests()
    elsewhere = set().union(*named.values())
    lost = sorted(name for name in modules() - elsewhere if place_of_test(name) not in named)
    assert not lost, (
        "nobody finds the tests of these. Write one in the place named here, or name the module, by its path, in the "
        "docstring of the test file that proves it:\n" + "\n".join(f"{name}: {place_of_test(name)}" for name in lost)
    )


def test_a_test_file_that_has_the_name_of_no_module_says_which_it_proves() -> None:
    named = named_by_tests()
    own = {place_of_test(module) for module in modules()}
    silent = [name for name in named if name.split("/")[1] in ROOMS and name not in own and not named[name]]
    assert not silent, "name a module that these prove, by its path, in their docstrings:\n" + "\n".join(silent)


def test_docstrings_of_tests_name_no_module_that_is_not_there() -> None:
    gone = {name: sorted(found - modules()) for name, found in named_by_tests().items() if found - modules()}
    assert not gone, f"these are named and do not exist: {gone}"


@pytest.mark.parametrize("file", ["cluster.yaml", "cluster/train-gpu.yaml"])
def test_a_cluster_gets_every_room(file: str) -> None:
    mounts = yaml.safe_load((PROJECT / file).read_text())["file_mounts"]
    assert {"autorecap", "configs", *ROOMS} <= set(mounts.values())
    assert all(Path(remote).name == local for remote, local in mounts.items() if local in ROOMS)

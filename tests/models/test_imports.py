"""What the models need to be imported and to run."""

from tests.support import gpu_box


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

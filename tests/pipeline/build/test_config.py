"""Settings: what is wrong is said in the words of the file.

Also proves base/settings_files.py, which reads files and overrides for every command.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from autorecap.base.settings import absolute_paths
from autorecap.base.settings_files import CONFIGS, SettingsError, load, to_yaml
from autorecap.cluster.train import absolute_arguments
from autorecap.dataset.fingerprint import fingerprint
from autorecap.models.autocap import AutoCap
from autorecap.pipeline.build.config import (
    BuildConfig,
    identity,
    load_config,
)
from autorecap.training.genau.recipe import GenAuTraining
from autorecap.training.vae.recipe import VAETraining


def write(tmp_path, text):
    path = tmp_path / "build.yaml"
    path.write_text(text)
    return path


def test_no_file_means_the_defaults():
    assert load_config(None) == BuildConfig()


def test_a_file_and_overrides_are_put_together_with_the_override_on_top(tmp_path):
    path = write(tmp_path, "captions: {num_beams: 4, batch_clips: 8}\nmax_failed_share: 0.25\n")
    config = load_config(path, ["captions.num_beams=3", "transcripts.languages=[en, de]", "pools.judge.gpus=1"])
    assert (config.captions.num_beams, config.captions.batch_clips, config.max_failed_share) == (3, 8, 0.25)
    assert config.transcripts.languages == ("en", "de") and config.pools.judge.gpus == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("captons: {num_beams: 2}", "unknown option captons; did you mean captions?"),
        ("captions: {num_beam: 2}", r"unknown option captions.num_beam; did you mean captions.num_beams?"),
        ("captions: {num_beams: many}", "captions.num_beams: expected a whole number, found 'many'"),
        ("captions: {num_beams: 0}", "captions.num_beams: expected 1 to 32, found 0"),
        ("captions: {num_beams: yes}", "captions.num_beams: expected a number, found a boolean"),
        ("captions: {model: yes}", "captions.model: expected text, found a boolean: .* unless they are quoted"),
        ("transcripts: {languages: [en, no]}", "transcripts.languages: expected text, found a boolean"),
        ("captions: {compiled: maybe}", "captions.compiled: expected true or false, found 'maybe'"),
        ("segments: {max_edge_gap_ms: yes}", "segments.max_edge_gap_ms: expected a number, found a boolean"),
        ("captions: 3", "captions: expected a section, with a setting a line, found 3"),
        ("[" * 3000, "is not readable YAML"),
        ("pools: {media: {cpus: .inf}}", "yaml: pools.media.cpus: expected 0 to below 1000000, found inf"),
        (
            "pools: {judge: {min_workers: 3}}",
            "pools.judge.max_workers: expected min_workers, 3, or more, found 1",
        ),
        ("- a", "a mapping of sections expected, found list"),
        ("a: [", "is not readable YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_config(path)
    assert "build.yaml" in str(caught.value)


@pytest.mark.parametrize("override", ["captions.num_beams", "captions.nope=1", "captions.num_beams=[", "x=1"])
def test_what_is_wrong_in_an_override_is_named(override):
    with pytest.raises(SettingsError, match="--set"):
        load_config(None, [override])


def test_a_value_from_the_command_line_is_not_blamed_on_the_file(tmp_path):
    path = write(tmp_path, "captions:\n  max_new_tokens: few\n")
    with pytest.raises(SettingsError) as error:
        load_config(path, ["captions.num_beams=many"])
    assert "--set: captions.num_beams: " in str(error.value)
    assert f"{path}: captions.max_new_tokens: " in str(error.value)
    with pytest.raises(SettingsError, match=r"^--set: captions\.num_beams: expected 1 to 32, found 0"):
        load_config(path, ["captions.num_beams=0", "captions.max_new_tokens=9"])


def test_an_empty_section_is_its_defaults(tmp_path):
    assert load_config(write(tmp_path, "captions:\n  # num_beams: 3\n")) == BuildConfig()


def test_paths_become_absolute_since_workers_start_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    config = load_config(None, ["captions.model=model", "keywords.file=mine.yaml"])
    assert (config.captions.model, config.keywords.file) == (f"{tmp_path}/model", f"{tmp_path}/mine.yaml")
    (tmp_path / "demo").mkdir()
    (tmp_path / "c.txt").touch()
    config = load_config(None, ["youtube.egresses=[direct, 'http://a:1']", "youtube.cookies=['', c.txt]"])
    assert config.captions.model == "demo", "the bundled one"
    assert (config.keywords.file, config.youtube.cookies) == ("", ("", f"{tmp_path}/c.txt"))


def test_so_do_those_of_a_training_but_neither_ids_of_a_hub_nor_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t5").mkdir()
    overrides = ["task.t5=t5", "task.clap=laion/clap", "run.checkpoints=kept", "data.read.cache=cache"]
    config = absolute_paths(load(GenAuTraining, None, overrides))
    assert (config.task.t5, config.task.clap) == (f"{tmp_path}/t5", "laion/clap")
    assert (config.run.checkpoints, config.data.read.cache) == (f"{tmp_path}/kept", f"{tmp_path}/cache")
    assert absolute_paths(load(GenAuTraining, None, ["run.checkpoints=s3://b/run"])).run.checkpoints == "s3://b/run"
    vae = absolute_paths(load(VAETraining, None, ["task.perceptual=lpips", "task.lpips=[VAE.ckpt]"]))
    assert vae.task.lpips == (f"{tmp_path}/VAE.ckpt",)
    condition = "source = t5 or " + " or ".join(f"key = '{number}'" for number in range(100))
    told = {"init": "t5", "where": condition, "validation_data": ["t5"], "resume": True}
    assert absolute_arguments(["a=t5", "laion/t5"], told, ()) == (
        [f"a={tmp_path}/t5", "laion/t5"],
        {"init": f"{tmp_path}/t5", "where": condition, "validation_data": [f"{tmp_path}/t5"], "resume": True},
    )


def test_a_bundled_file_is_named_by_a_word_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # as in a checkout
    bundled = load_config(CONFIGS / "demo.yaml")
    assert load_config("demo") == load_config("demo.yaml") == bundled != load_config(None)
    (tmp_path / "demo.yaml").write_text("max_failed_share: 0.25")
    assert load_config("demo.yaml").max_failed_share == 0.25 and load_config("demo") == bundled
    for path in ("./nowhere/demo", "keywords"):
        with pytest.raises(SettingsError, match=f"{Path(path)} does not exist"):
            load_config(path)


def test_a_missing_file_names_the_bundled_ones(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing\.yaml does not exist.*: .*autorecap-xl, demo,"):
        load_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", ["demo", "autorecap-xl"])
def test_the_bundled_files_load(name):
    assert isinstance(load_config(CONFIGS / f"{name}.yaml"), BuildConfig)


def test_the_printed_settings_load_again_as_they_are(tmp_path):
    config = load_config(None, ["captions.num_beams=5", "segments.max_edge_gap_ms=9000"])
    text = to_yaml(config)
    assert yaml.safe_load(text)["captions"]["num_beams"] == 5
    assert load_config(write(tmp_path, text)) == config


def test_the_fingerprint_follows_results_and_not_sizes_of_pools_and_batches(tmp_path):
    def of(*overrides):
        return fingerprint(identity(load_config(None, overrides)))

    assert of() == of("pools.block_videos=3", "captions.batch_clips=2", "writer.videos_per_shard=7")
    assert of() != of("captions.num_beams=3")
    assert of() != of("segments.min_gap_ms=2000")
    rules = tmp_path / "rules.yaml"
    rules.write_text((CONFIGS / "keywords.yaml").read_text() + "\n# a comment\n")
    assert of() == of(f"keywords.file={rules}")
    assert of() != of("keywords.enabled=false")


def test_the_fingerprint_follows_the_files_of_the_model(tmp_path):
    for name in "abc":
        shutil.copytree(AutoCap.DEMO, tmp_path / name)
    changed = tmp_path / "c" / "config.json"
    changed.write_text(changed.read_text().replace('"feature_dropout": 0.05', '"feature_dropout": 0.06'))
    a, b, c = (fingerprint(identity(load_config(None, [f"captions.model={tmp_path}/{name}"]))) for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("model", ["/nowhere/at/all", "nowhere", "{tmp_path}"])
def test_a_model_that_is_not_there_is_a_matter_of_settings(tmp_path, model):
    with pytest.raises(SettingsError, match=r"captions\.model"):
        identity(load_config(None, [f"captions.model={model.format(tmp_path=tmp_path)}"]))


def test_clips_longer_than_the_model_hears_are_refused_before_the_work():
    with pytest.raises(SettingsError, match=r"segments\.max_clip_ms: expected 10000 or less, .* found 20000"):
        identity(load_config(None, ["segments.max_clip_ms=20000"]))


def test_a_bad_keyword_file_is_a_matter_of_settings(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing\.yaml"):
        identity(load_config(None, [f"keywords.file={tmp_path}/nothing.yaml"]))

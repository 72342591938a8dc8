import dataclasses
import re
from pathlib import Path

import pytest
from absl import flags

from fedjax_anomaly.config import Config, choices_of
from fedjax_anomaly.config_flags import config_from_flags, define_flags

PRESETS = sorted((Path(__file__).parents[2] / "fedjax_anomaly" / "presets").glob("*.flags"))


@pytest.fixture
def parsed(monkeypatch):
    """A flag registry of its own, so that tests do not share settings."""
    registry = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", registry)
    for define in ("bool", "integer", "float", "string", "enum"):
        original = getattr(flags, f"DEFINE_{define}")
        monkeypatch.setattr(
            flags, f"DEFINE_{define}", lambda *args, original=original: original(*args, flag_values=registry)
        )
    define_flags()

    def parse(*arguments: str) -> Config:
        registry(["train", *arguments])
        return config_from_flags()

    return parse


def test_flags_without_arguments_give_the_default_config(parsed):
    assert parsed() == Config()


def test_every_setting_is_a_documented_flag_of_its_type(parsed):
    parsed()
    for field in dataclasses.fields(Config):
        flag = flags.FLAGS[field.name]
        assert flag.default == field.default
        assert len(flag.help.split()) >= 2
        if choices_of(field):
            assert flag.parser.enum_values == list(choices_of(field))


def test_an_unknown_choice_is_refused_by_the_flag(parsed):
    with pytest.raises(flags.IllegalFlagValueError, match="--partition=zipf: value should be one of <iid"):
        parsed("--partition=zipf")


def test_the_config_survives_its_json():
    config = Config(dataset="nsl_kdd", dirichlet_alpha=0.1, num_clusters="auto", dp_unit="client", dp_epsilon=8.0)
    assert Config.from_json(config.to_json()) == config


def test_a_stored_config_can_be_run_again_and_changed(parsed, tmp_path):
    stored = Config(hidden_size=32, num_rounds=7, output_dir="somewhere")
    (tmp_path / "config.json").write_text(stored.to_json())
    again = parsed(f"--config={tmp_path / 'config.json'}", "--num_rounds=9")
    assert again == dataclasses.replace(stored, num_rounds=9, output_dir="")


@pytest.mark.parametrize("text", ["{", '{"colour": "red"}'])
def test_a_damaged_config_is_refused(text):
    with pytest.raises(ValueError, match=r"not valid JSON|unknown settings: colour"):
        Config.from_json(text)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_a_preset_parses_and_is_named_after_its_data_set(parsed, preset):
    config = parsed(f"--flagfile={preset}")
    assert config.dataset == preset.stem.removesuffix("_dp").removesuffix("_client")
    assert (config.dp_unit != "none") == preset.stem.endswith("_dp")


def test_there_is_a_preset_for_every_data_set():
    names = next(choices_of(field) for field in dataclasses.fields(Config) if field.name == "dataset")
    plain = {preset.stem for preset in PRESETS if not preset.stem.endswith("_dp")}
    assert plain == set(names) - {"files"}  # Where to start depends on the user's data.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "zipf"}, "partition='zipf' is unknown; the choices are iid"),
        ({"num_rounds": 0}, "num_rounds=0 must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be positive"),
        ({"num_clients": 20, "clients_per_round": 21}, "clients_per_round=21 must be at most num_clients=20"),
        ({"dataset": "files", "test_fraction": 1.0}, "test_fraction=1.0 must lie in (0, 1)"),
        ({"dataset": "files", "test_fraction": float("nan")}, "test_fraction=nan must lie in (0, 1)"),
        ({"label_column": "y"}, "label_column=y has no effect with dataset=telemetry"),
        ({"dataset": "smd", "client_column": "host"}, "client_column=host has no effect with dataset=smd"),
        ({"time_column": "when"}, "time_column=when has no effect with dataset=telemetry; leave it out, or give"),
        ({"test_fraction": 0.5}, "test_fraction=0.5 has no effect with dataset=telemetry"),
        ({"num_clusters": "many"}, "num_clusters='many' must be a positive number or auto"),
        ({"clustering": "ifca"}, "clustering=ifca needs a number of models, but num_clusters=1"),
        ({"clustering": "ifca", "num_clusters": "auto"}, "num_clusters=auto"),
        ({"dp_epsilon": 8.0}, "dp_epsilon=8.0 has no effect with dp_unit=none"),
        ({"dp_unit": "client"}, "exactly one of dp_epsilon and dp_noise_multiplier, but got neither"),
        (
            {"dp_unit": "client", "dp_epsilon": 1.0, "dp_noise_multiplier": 2.0},
            "but got dp_epsilon=1.0 and dp_noise_multiplier=2.0",
        ),
        ({"dp_unit": "example"}, "dp_unit=example needs exactly one of dp_epsilon and dp_noise_multiplier"),
        ({"dp_unit": "example", "dp_epsilon": 1.0, "dp_delta": 1.5}, "dp_delta=1.5 must lie in (0, 1)"),
        ({"dp_delta": -1e-6}, "dp_delta=-1e-06 must be at least 0"),
        ({"dp_unit": "example", "dp_epsilon": 1.0, "method": "pca"}, "dp_unit=example has no effect with method=pca"),
        (
            {"dp_unit": "client", "dp_epsilon": 1.0, "method": "local_only"},
            "dp_unit=client has no effect with method=local_only",
        ),
        ({"dp_sampling_rate": 0.1}, "dp_sampling_rate=0.1 has no effect with dp_unit=none; leave it out, or give"),
        ({"local_steps": 2, "dp_unit": "client", "dp_epsilon": 1.0}, "local_steps=2 has no effect with dp_unit=client"),
        ({"dp_unit": "example", "dp_epsilon": 1.0, "dp_sampling_rate": 1.1}, "dp_sampling_rate=1.1 must lie in [0, 1]"),
        ({"masks_per_window": 2, "input_masking": 0.1}, "masks_per_window=2 has no effect with dp_unit=none"),
        (
            {"dp_unit": "example", "dp_epsilon": 1.0, "masks_per_window": 2},
            "masks_per_window=2 has no effect with dp_unit=example and input_masking=0.0; leave it out, or give",
        ),
        (
            {"dp_unit": "example", "dp_epsilon": 1.0, "dp_sampling_rate": 0.1, "batch_size": 8},
            "batch_size=8 has no effect with dp_sampling_rate=0.1; leave one of them out",
        ),
        (
            {"dp_unit": "example", "dp_epsilon": 1.0, "local_steps": 1, "local_epochs": 2},
            "local_epochs=2 has no effect with local_steps=1",
        ),
        ({"profile": "trace", "method": "pca"}, "profile=trace traces rounds, which method=pca does not have"),
        ({"client_data": "host"}, "clients_per_round=0 needs all on the device"),
        ({"client_data": "host", "clients_per_round": 2, "client_sampling": "poisson"}, "a place for every client"),
        ({"client_data": "host", "clients_per_round": 2, "num_seeds": 2}, "more than one seed or swept value needs"),
        ({"server_adaptivity": 1e-6}, "server_adaptivity=1e-06 has no effect with server_optimizer=fedavg"),
        (
            {"dp_unit": "example", "dp_epsilon": 1.0, "clustering": "ifca", "num_clusters": "2"},
            "clustering=ifca looks at every client's windows in every round without noise",
        ),
    ],
)
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Config(**settings)


def test_differences_name_what_makes_a_checkpoint_useless():
    config = Config()
    other = dataclasses.replace(config, hidden_size=32, num_rounds=50, resume=True)
    assert other.differences(config) == ["hidden_size 64 -> 32"]


def test_with_calibrated_noise_the_number_of_rounds_must_stay():
    config = Config(dp_unit="client", dp_epsilon=8.0)
    assert dataclasses.replace(config, num_rounds=60).differences(config) == ["num_rounds 30 -> 60"]

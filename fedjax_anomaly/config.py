"""One frozen dataclass holds every setting of a run; `config_flags` makes the command line of it."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from fedjax_anomaly.config_bounds import check_bounds
from fedjax_anomaly.config_machines import check_machines
from fedjax_anomaly.config_option import option
from fedjax_anomaly.config_privacy import TRUST_BY_UNIT, check_privacy
from fedjax_anomaly.data.encoding import EncodingScope
from fedjax_anomaly.data.microservices.workload import LoadProfile
from fedjax_anomaly.data.partition import Scheme
from fedjax_anomaly.detection.anomaly_score import ScoreRule
from fedjax_anomaly.detection.threshold import ThresholdRule, ThresholdScope

DatasetName = Literal["telemetry", "nsl_kdd", "kddcup99", "unsw_nb15", "smd", "nezha", "files"]

Method = Literal[
    "federated",
    "centralized",
    "local_only",
    "no_model",
    "pca",
    "kmeans",
    "isolation_forest",
    "one_class_svm",
    "linear_svm",
    "rbf_svm",
]
"""How the detector is trained. The first three train the model in rounds, the others are the classical baselines."""

SWEPT = ("learning_rate", "proximal_mu", "dp_noise_multiplier")
"""The settings that may differ between the members of one compiled run."""

TRAINED_IN_ROUNDS: tuple[Method, ...] = ("federated", "centralized", "local_only")

_DELTA = {"none": 0.0, "client": 1e-3, "example": 1e-5}
"""The delta with `dp_delta=0`."""

_PREPROCESSING_SHARE = 0.25
"""Of `dp_epsilon`, with `dp_preprocessing_epsilon=0`; noise adds up by squares, so the training feels little of it."""

RUN_PLACES = (
    "output_dir",
    "data_dir",
    "cache_dir",
    "compilation_cache",
    "profile",
    "host_devices",
    "coordinator_address",
    "num_processes",
    "process_id",
)
"""The settings that may differ between machines that share a run, or after a stop."""

CLIENTS_WITHOUT_SOURCES = 20
"""The number of clients with `num_clients=0` where a data set names no sources."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of a run. Zero or an empty string stands for "choose for me" where the help says so."""

    dataset: DatasetName = option(
        "telemetry", "Data set; telemetry is simulated and needs no download, files are your own CSV or Parquet files."
    )
    data_dir: str = option(
        "", "Folder with the data set's raw files, compressed or not, or your own; empty downloads them."
    )
    client_column: str = option(
        "", "For files: the column that names each row's client; empty takes each file for a client."
    )
    time_column: str = option(
        "", "For files: the column of ISO time stamps or seconds; empty takes rows as evenly spaced, in their order."
    )
    label_column: str = option("", "For files: the column of labels or names of attacks; empty computes no metrics.")
    test_fraction: float = option(
        0.3, "For files without a folder of test files: share of each client's rows, its last ones, that are tested on."
    )
    cache_dir: str = option("", "Folder for prepared data; empty takes the user's cache folder.")
    output_dir: str = option("", "Folder for results; empty makes a new one under runs/.")
    seed: int = option(0, "Seed of the simulator, the partition, the model and the training.")
    num_seeds: int = option(1, "Seeds run side by side in one compiled program: seed, seed + 1, and so on.")
    sweep: str = option(
        "", f"Values of one setting to run side by side, as NAME=VALUE,VALUE; NAME is one of {', '.join(SWEPT)}."
    )
    telemetry_services: int = option(20, "Services of the simulated fleet.")
    telemetry_load: LoadProfile = option("normal", "Load profile of the simulated fleet.")

    method: Method = option(
        "federated",
        "How the detector is trained: in rounds of the federation, on all clients' rows in one place, by each client "
        "alone, or by a classical baseline; linear_svm and rbf_svm see attack labels in training.",
    )
    num_clients: int = option(
        0,
        "Clients of the federation; 0 takes one per source (service, machine, pod, file), or "
        f"{CLIENTS_WITHOUT_SOURCES} where the data set names no sources.",
    )
    partition: Scheme = option(
        "natural",
        "How clients differ: in which rows they hold (dirichlet, quantity, natural, shards), in the scale of their "
        "numeric columns (feature_shift), in which attack they call normal (concept_shift), or not at all (iid).",
    )
    partition_column: str = option("", "Categorical column to partition by; empty takes the data set's first.")
    dirichlet_alpha: float = option(
        0.5, "Concentration of the dirichlet and quantity partitions; smaller is more skewed."
    )
    shards_per_client: int = option(2, "Shards of each client in the shards partition; fewer is more skewed.")
    shift_strength: float = option(
        1.0, "Deviation of the logarithm of each client's gains in the feature_shift partition; 0 is iid."
    )
    validation_fraction: float = option(0.1, "Share of each client's normal training rows held out for the threshold.")
    min_client_windows: int = option(16, "Least number of training windows that a client must have.")

    window_length: int = option(0, "Rows per window; 0 takes 16, or 1 where the row order means nothing.")
    window_stride: int = option(
        0, "Rows between training windows; 0 takes a quarter of the window, or all of it for dp_unit=example."
    )
    scoring_stride: int = option(
        0,
        "Rows between scored windows, over which a row's errors are averaged; 0 takes half the window.",
    )
    difference_columns: bool = option(
        False, "Adds each numeric column's change since the row before, for data in time order."
    )
    encoding_scope: EncodingScope = option(
        "global", "Whose training rows a client's numeric columns are standardised by: all clients' or its own."
    )
    encoding_clip: float = option(5.0, "Bound on standardised numeric values.")
    deviation_floor: float = option(0.05, "Least standard deviation of a column, in units of its signed log1p.")
    min_category_count: int = option(10, "Categories rarer than this in training share one bucket with unknown ones.")

    model: Literal["lstm_autoencoder", "dense_autoencoder"] = option(
        "lstm_autoencoder", "What is trained in rounds: the LSTM autoencoder, or a plain one without recurrence."
    )
    hidden_size: int = option(64, "Units of each LSTM or hidden layer.")
    latent_size: int = option(8, "Size of the latent.")
    num_layers: int = option(1, "LSTMs stacked in the encoder and in the decoder.")
    latent_per: Literal["step", "window"] = option("step", "One latent per time step, or one per window.")
    matmul_dtype: Literal["float32", "bfloat16"] = option(
        "float32",
        "Operands of the model's matrix products: bfloat16 is for accelerators; sums, parameters and gradients stay "
        "float32.",
    )

    input_masking: float = option(
        0.0, "Share of a window's values hidden from the model in training (denoising autoencoder); 0 hides none."
    )

    num_rounds: int = option(30, "Federated rounds.")
    clients_per_round: int = option(0, "Clients in a round's cohort; 0 takes all.")
    client_sampling: Literal["fixed_size", "poisson", "cyclic"] = option(
        "fixed_size",
        "How a cohort smaller than the federation is drawn: exactly that many, each client independently, or by turns "
        "in a fixed random order.",
    )
    local_epochs: int = option(1, "Passes of a client over its own windows in a round.")
    local_steps: int = option(
        0, "For dp_unit=example: local steps in a round, each on a draw of its own; 0 takes local_epochs passes."
    )
    masks_per_window: int = option(
        1,
        "For dp_unit=example: random masks over which a window's gradient is averaged before it is clipped.",
    )
    batch_size: int = option(64, "Windows per local step.")
    client_optimizer: Literal["sgd", "momentum", "adam", "adamw"] = option(
        "adam", "Optimizer of local training; its state starts anew in every round."
    )
    learning_rate: float = option(2e-3, "Step size of local training.")
    proximal_mu: float = option(0.0, "Weight of FedProx's proximal term; 0 is FedAvg.")
    server_optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = option("fedavg", "Optimizer of the server.")
    server_learning_rate: float = option(
        0.0, "Step size of the server; 0 takes 1 for fedavg and fedavgm, 0.01 for fedadam and fedyogi."
    )
    server_momentum: float = option(0.9, "Momentum of fedavgm, first-moment decay of fedadam and fedyogi.")
    server_adaptivity: float = option(
        1e-3, "Tau of fedadam and fedyogi; far below the elements of an update it makes their size irrelevant."
    )
    server_schedule: Literal["constant", "cosine"] = option(
        "constant", "Whether the server's step size stays, or falls to 0 over num_rounds along half a cosine."
    )
    num_clusters: str = option("1", "Number of models; auto picks it from the clients' data summaries.")
    clustering: Literal["similarity", "ifca"] = option(
        "similarity", "Clients share a model by the similarity of their data, or by which model fits them best (IFCA)."
    )

    dp_unit: Literal["none", "client", "example"] = option(
        "none",
        "What differential privacy protects: nothing, everything that one client holds, or one training window, whose "
        "client adds the noise itself.",
    )
    dp_trust: Literal["auto", "central", "distributed", "local"] = option(
        "auto",
        "Who adds the noise: the server to the sum of updates (central), every client its share of it before a secure "
        "sum (distributed), or every client all that it needs by itself (local); auto takes central for "
        "dp_unit=client and local for example.",
    )
    dp_epsilon: float = option(
        0.0, "Target epsilon; the noise is calibrated to it. 0: give dp_noise_multiplier instead."
    )
    dp_delta: float = option(0.0, "Delta of the guarantee; 0 takes 1e-3 for dp_unit=client and 1e-5 for example.")
    dp_noise_multiplier: float = option(0.0, "Noise on a sum in units of clip_norm. 0: give dp_epsilon instead.")
    dp_sampling_rate: float = option(
        0.0,
        "For dp_unit=example: probability with which a local step draws each window, the same at every client; 0 takes "
        "batch_size over the client's windows.",
    )
    clip_norm: float = option(
        1.0, "Bound on the L2 norm of one client's update, or one window's gradient, under differential privacy."
    )
    clip_quantile: float = option(
        0.0,
        "Share of the clients' updates that the clip norm of dp_unit=client follows, by a noisy count, from clip_norm "
        "on; 0 leaves it fixed.",
    )
    clip_learning_rate: float = option(0.2, "Step of the logarithm of a clip norm that follows clip_quantile.")
    dp_mechanism: Literal["gaussian", "correlated"] = option(
        "gaussian",
        "Noise of dp_unit=client: independent in each round, or such that it cancels over rounds (DP-FTRL), for "
        "client_sampling=cyclic.",
    )

    dp_preprocessing: Literal["none", "private"] = option(
        "none",
        "Whether what is learned beside the training (encoding, summaries of clusters, thresholds) gets noise of its "
        "own and counts for epsilon, under dp_unit=example.",
    )
    dp_preprocessing_epsilon: float = option(
        0.0,
        "Epsilon of the encoding and the summaries by themselves; the training is calibrated to what they leave of "
        "dp_epsilon. 0 takes a quarter of dp_epsilon.",
    )

    secure_aggregation: Literal["none", "secagg", "secaggplus"] = option(
        "none",
        "How updates are summed: in the clear, or masked so that the server learns sums only, with masks between all "
        "clients (SecAgg) or between neighbours (SecAgg+, for hundreds of clients).",
    )
    secagg_clip: float = option(
        4.0,
        "Bound on the elements of an update under secure aggregation without differential privacy; elements beyond it "
        "are clipped and counted.",
    )

    score: ScoreRule = option("mean", "Anomaly score: mean error over columns, or mean -log empirical p-value.")
    score_smoothing: int = option(
        1, "Rows that a score is averaged over, the row itself and those before it; 1 leaves scores as they are."
    )
    threshold: ThresholdRule = option("quantile", "Threshold from held-out normal rows.")
    threshold_quantile: float = option(0.95, "Quantile for threshold=quantile.")
    target_fpr: float = option(0.05, "False-positive rate for threshold=conformal.")
    threshold_scope: ThresholdScope = option("global", "Whose held-out rows set a client's threshold.")

    rounds_per_report: int = option(5, "Rounds per compiled call; progress, checkpoints and Ctrl-C act between calls.")
    client_batch_size: int = option(
        -1, "Clients trained at once on each device: 0 all, 1 one by one, -1 chooses by the platform."
    )
    client_data: Literal["device", "host"] = option(
        "device",
        "Where the clients' windows stay: all on the devices, or on the host, from where cohorts are fetched ahead of "
        "their rounds, for more clients than a device has memory for.",
    )
    member_batch_size: int = option(
        -1,
        "Seeds and swept values trained at once on each device: 0 all, 1 one by one, -1 chooses by platform and size.",
    )
    host_devices: int = option(
        0, "CPU devices to divide the clients over; 0 takes one per core. No effect on accelerators."
    )
    coordinator_address: str = option(
        "",
        "For a run on many machines: HOST:PORT of process 0, the same for all; auto takes it from SLURM, Open MPI, "
        "Kubernetes, Cloud TPU or JAX_COORDINATOR_ADDRESS. Empty runs one process.",
    )
    num_processes: int = option(0, "Processes of a run on many machines; 0 asks the cluster that auto finds.")
    process_id: int = option(-1, "Number of this process, from 0; -1 asks the cluster that auto finds.")
    compilation_cache: str = option(
        "",
        "Folder for compiled programs, from which the next start of the same configuration takes them; empty takes the "
        "user's cache folder, none keeps nothing.",
    )
    profile: str = option(
        "", "Folder for a trace of one compiled call of rounds, for TensorBoard or XProf; empty traces nothing."
    )
    resume: bool = option(False, "Continue the run in output_dir from its last checkpoint, bit-identically.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices = choices_of(field)
            value = getattr(self, field.name)
            if choices and value not in choices:
                raise ValueError(f"{field.name}={value!r} is unknown; the choices are {', '.join(choices)}.")
        check_bounds(self)
        if self.dp_unit == "none" or not self.dp_delta:
            object.__setattr__(self, "dp_delta", _DELTA[self.dp_unit])  # The resolved config shows the one in use.
        self._check_files()
        self._check_method()
        self.members()
        self._check_clusters()
        check_privacy(self)
        check_machines(self)
        if self.is_changed("server_adaptivity") and self.server_optimizer not in ("fedadam", "fedyogi"):
            raise ValueError(
                f"server_adaptivity={self.server_adaptivity} has no effect with server_optimizer="
                f"{self.server_optimizer}; leave it out, or give --server_optimizer=fedadam."
            )
        if self.num_clients and self.clients_per_round > self.num_clients:
            raise ValueError(
                f"clients_per_round={self.clients_per_round} must be at most num_clients={self.num_clients}."
            )

    def _check_files(self) -> None:
        if not 0.0 < self.test_fraction < 1.0:
            raise ValueError(f"test_fraction={self.test_fraction} must lie in (0, 1).")
        for name in ("client_column", "time_column", "label_column", "test_fraction"):
            if self.dataset != "files" and self.is_changed(name):
                raise ValueError(
                    f"{name}={getattr(self, name)} has no effect with dataset={self.dataset}; leave it out, or give "
                    "--dataset=files."
                )

    def is_changed(self, name: str) -> bool:
        """Whether a setting differs from its default, which a dataclass keeps on the class."""
        return getattr(self, name) != getattr(type(self), name)

    def _check_method(self) -> None:
        in_rounds = self.method in TRAINED_IN_ROUNDS
        unused = {
            "dp_unit": self.dp_unit == "client" or (self.dp_unit == "example" and not in_rounds),
            "secure_aggregation": self.secure_aggregation != "none",
            "clients_per_round": self.clients_per_round > 0,
            "num_clusters": self.num_clusters != "1",
        }
        for name, given in unused.items():
            if given and self.method != "federated":
                raise ValueError(
                    f"{name}={getattr(self, name)} has no effect with method={self.method}; leave it out, or give "
                    "--method=federated."
                )
        if self.profile and not in_rounds:
            raise ValueError(
                f"profile={self.profile} traces rounds, which method={self.method} does not have; leave it out."
            )
        if self.score == "pvalue" and not in_rounds:
            raise ValueError(
                f"score=pvalue needs an error per column, which method={self.method} does not have; leave it out."
            )

    def _check_clusters(self) -> None:
        if self.num_clusters != "auto" and not (self.num_clusters.isdecimal() and int(self.num_clusters) >= 1):
            raise ValueError(f"num_clusters={self.num_clusters!r} must be a positive number or auto.")
        if self.clustering == "ifca" and self.num_clusters in ("1", "auto"):
            raise ValueError(
                f"clustering=ifca needs a number of models, but num_clusters={self.num_clusters}; give "
                "--num_clusters of 2 or more, or --clustering=similarity."
            )

    def stored(self) -> "Config":
        """Without what says where and how a run was started: what a run's folder keeps, to be run again anywhere."""
        return dataclasses.replace(self, resume=False, coordinator_address="", num_processes=0, process_id=-1)

    @property
    def preprocessing_epsilon(self) -> float:
        """The epsilon of private preprocessing by itself, as given or as chosen."""
        return self.dp_preprocessing_epsilon or _PREPROCESSING_SHARE * self.dp_epsilon

    def members(self) -> list["Config"]:
        """One config for each swept value and seed, in this order; `[self]` without many seeds and without a sweep.

        Raises:
          ValueError: for a sweep that is not `NAME=VALUE,VALUE`, of a setting that cannot be swept, or by a method
            that has no rounds.
        """
        if self.num_seeds == 1 and not self.sweep:
            return [self]
        one = dataclasses.replace(self, num_seeds=1, sweep="", resume=False)
        settings: list[dict[str, Any]] = [{}]
        if self.sweep:
            name, _, text = self.sweep.partition("=")
            try:
                settings = [{name: float(value)} for value in text.split(",")]
            except ValueError:
                raise ValueError(f"sweep={self.sweep!r} is not NAME=VALUE,VALUE with numbers as values.") from None
            if name not in SWEPT or self.method not in TRAINED_IN_ROUNDS:
                raise ValueError(
                    f"sweep={self.sweep!r} is not possible with method={self.method}: what can be swept is "
                    f"{', '.join(SWEPT)}, of a method that trains in rounds."
                )
        return [
            dataclasses.replace(one, seed=self.seed + number, **setting)
            for setting in settings
            for number in range(self.num_seeds)
        ]

    @property
    def trust(self) -> Literal["auto", "central", "distributed", "local"]:
        """Who adds the noise, as given or as chosen; `auto` without differential privacy."""
        return TRUST_BY_UNIT[self.dp_unit] if self.dp_trust == "auto" else self.dp_trust

    @property
    def sampling(self) -> Literal["full", "fixed_size", "poisson", "cyclic"]:
        """How a round's clients are drawn, once `num_clients` is known."""
        return "full" if self.cohort_size == self.num_clients else self.client_sampling

    @property
    def cohort_size(self) -> int:
        """S, the size of a round's cohort or its expectation, once `num_clients` is known."""
        return self.clients_per_round or self.num_clients

    def to_json(self) -> str:
        """The settings as JSON; `from_json` of it gives an equal config."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Reads `config.json`.

        Raises:
          ValueError: when the text is not JSON or names a setting that does not exist.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the configuration is not valid JSON: {error}.") from error
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"the configuration has unknown settings: {', '.join(sorted(unknown))}.")
        return cls(**values)

    def differences(self, other: "Config") -> list[str]:
        """Settings that make a checkpoint of one config useless to the other, as readable text."""
        free = {
            *RUN_PLACES,
            "client_data",  # It changes no bit.
            "resume",
            "num_rounds",
            "rounds_per_report",
        }
        if self.dp_epsilon or self.dp_mechanism == "correlated":  # The noise was made for the number of rounds.
            free.discard("num_rounds")
        return [
            f"{field.name} {getattr(other, field.name)!r} -> {getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name not in free and getattr(self, field.name) != getattr(other, field.name)
        ]


def choices_of(field: dataclasses.Field, owner: type = Config) -> tuple[str, ...]:
    """The values that a setting may take, or () where any of its type will do."""
    kind = typing.get_type_hints(owner)[field.name]
    return get_args(kind) if get_origin(kind) is Literal else ()


def load_config(path: str | Path) -> Config:
    """Reads a `config.json`."""
    return Config.from_json(Path(path).read_text())

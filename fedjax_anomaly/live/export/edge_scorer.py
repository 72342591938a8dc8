"""What is exported: from the columns of a window, in their own units, to the score of its last row."""

import dataclasses
import json

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from fedjax_anomaly.data.encoding import OTHER, Encoder
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.types import PyTree


@dataclasses.dataclass(frozen=True)
class EdgeScorer:
    """One client's detector, as far as it does not change from event to event.

    Attributes:
      bundle: the trained detector of all clients.
      client: the number of the client whose encoding, model and threshold are exported.
    """

    bundle: Bundle
    client: int

    def __post_init__(self) -> None:
        if not 0 <= self.client < self.bundle.num_clients:
            raise ValueError(f"client={self.client} must be at least 0 and less than {self.bundle.num_clients}.")

    @property
    def encoder(self) -> Encoder:
        """The client's."""
        return self.bundle.encoders[self.client]

    @property
    def params(self) -> PyTree:
        """Those of the client's model, nested dicts."""
        return jax.tree.map(lambda leaf: leaf[self.bundle.cluster[self.client]], self.bundle.params)

    @property
    def num_given(self) -> int:
        """Numeric columns of an event; changes since the row before are computed."""
        num_numeric = self.encoder.layout.num_numeric
        return num_numeric // 2 if self.bundle.differences else num_numeric

    @property
    def num_rows(self) -> int:
        """Rows of `numeric` for one score: the window's T, and one before it where changes are scored."""
        return self.bundle.window_length + int(self.bundle.differences)

    def metadata(self) -> dict[str, str]:
        """What a node has to know beside the program, each value in JSON: the columns in their order, and so on."""
        names, num_numeric = self.encoder.column_names, self.encoder.layout.num_numeric
        content = {
            "client": self.bundle.client_names[self.client],
            "numeric_columns": names[: self.num_given],
            "categorical_columns": {
                name: [*vocabulary, OTHER]
                for name, vocabulary in zip(names[num_numeric:], self.encoder.vocabularies, strict=True)
            },
            "column_errors": names,
            "num_rows": self.num_rows,
            "window_length": self.bundle.window_length,
            "smoothing": self.bundle.smoothing,
            "threshold": float(self.bundle.thresholds[self.client]),
            "trained_at": self.bundle.trained_at,
        }
        return {name: json.dumps(value) for name, value in content.items()}

    def score_windows(
        self, numeric: Float[jax.Array, "B num_rows P"], categories: Int[jax.Array, "B T Q"] | None = None
    ) -> tuple[Float[jax.Array, " B"], Float[jax.Array, "B columns"]]:
        """The scores of the last rows of windows before smoothing, and their column errors; pure JAX.

        Args:
          numeric: numeric columns in their own units. Not-a-number is not replaced, its scores are not-a-number.
          categories: the place of each categorical value in its column's vocabulary, the vocabulary's length for a rare
            or unknown one; None where no column is categorical.

        Guarantees:
          Equal to `Encoder.transform`, the model's column errors and the score rule one after the other (test:
          `tests/live/export/test_export.py::test_every_form_scores_as_the_parts_do`).
        """
        rows = self._encode(numeric, categories)
        errors = self.bundle.build_model().column_errors(self.params, rows)[:, -1]
        return jax.vmap(self.bundle.build_score())(errors), errors

    def _encode(self, numeric: jax.Array, categories: jax.Array | None) -> jax.Array:
        """As `Encoder.transform` does it, in float64 where JAX may: standardising magnifies rounding."""
        wide = jnp.result_type(float)
        if self.bundle.differences:
            numeric = jnp.concatenate([numeric[:, 1:], jnp.diff(numeric, axis=1)], axis=2)
        values = numeric.astype(wide)
        mean, deviation = (jnp.asarray(a, wide)[None, None] for a in (self.encoder.mean, self.encoder.deviation))
        standardised = (jnp.sign(values) * jnp.log1p(jnp.abs(values)) - mean) / deviation
        parts = [jnp.clip(standardised, -self.encoder.clip, self.encoder.clip).astype(jnp.float32)]
        if categories is not None:
            sizes = self.encoder.layout.block_sizes
            parts += [jax.nn.one_hot(categories[..., q], size, dtype=jnp.float32) for q, size in enumerate(sizes)]
        return jnp.concatenate(parts, axis=-1)

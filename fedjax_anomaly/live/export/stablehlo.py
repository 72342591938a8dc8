"""The scorer as a StableHLO artifact: one compiled program, for whoever has JAX or another runtime of XLA."""

import jax
import jax.numpy as jnp

from fedjax_anomaly.live.export.edge_scorer import EdgeScorer


def stablehlo_artifact(scorer: EdgeScorer, platforms: tuple[str, ...] = ("cpu", "cuda")) -> bytes:
    """The scorer with its parameters, for any number of windows at once.

    `jax.export.deserialize(artifact).call(numeric, categories)` gives what `EdgeScorer.score_windows` does, within the
    time for which JAX promises to read it: six months by a newer version, three weeks by an older one.

    Args:
      scorer: what to export.
      platforms: that the program may run on.

    Guarantees:
      Scores are those of the library (test:
      `tests/live/export/test_export.py::test_every_form_scores_as_the_parts_do`).
    """
    from jax import export  # Not needed by anything else.

    (batch,) = export.symbolic_shape("batch")
    blocks = scorer.encoder.layout.block_sizes
    inputs = [jax.ShapeDtypeStruct((batch, scorer.num_rows, scorer.num_given), jnp.float32)]
    if blocks:
        inputs.append(jax.ShapeDtypeStruct((batch, scorer.bundle.window_length, len(blocks)), jnp.int32))
    with jax.enable_x64(True):
        return bytes(export.export(jax.jit(scorer.score_windows), platforms=platforms)(*inputs).serialize())

import jax
import pytest

from fedjax_anomaly import compiler_options


def test_an_unknown_option_is_left_out(monkeypatch):
    candidates = {"xla_cpu_of_another_version": "1", "xla_cpu_prefer_vector_width": "512"}
    monkeypatch.setattr(compiler_options, "_ON_CPU", candidates)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda: 0, compiler_options=candidates)()
    kept = compiler_options.compiler_options()
    assert kept == {"xla_cpu_prefer_vector_width": "512"}
    assert jax.jit(lambda: 0, compiler_options=kept)() == 0

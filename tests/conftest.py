"""Every test runs on eight forced host devices, in float32 at the highest precision."""

import os

# Before jax is imported: XLA reads these once.
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax  # noqa: E402

jax.config.update("jax_default_matmul_precision", "highest")

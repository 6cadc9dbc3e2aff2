"""Telemetry: samples of what a run uses, in a bounded ring a run; and what takes them."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .host import HostMetrics as HostMetrics
    from .sample import Sample as Sample
    from .sample import TelemetryPage as TelemetryPage
    from .sampler import SamplerStats as SamplerStats
    from .sampler import TelemetrySampler as TelemetrySampler
    from .sampler import asample_run as asample_run
    from .sampler import sample_run as sample_run

__getattr__, __all__ = exporter(
    __name__,
    {
        "host": "HostMetrics",
        "sample": "Sample TelemetryPage",
        "sampler": "SamplerStats TelemetrySampler asample_run sample_run",
    },
)

"""Runs: what is known of one, its lanes in order, its stages, its replay. The log itself is elsewhere."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .fold import StageView as StageView
    from .fold import fold_stages as fold_stages
    from .lanes import merge_lanes as merge_lanes
    from .lanes import parallel_merge as parallel_merge
    from .merge import AsyncMergedFollower as AsyncMergedFollower
    from .merge import MergedFollower as MergedFollower
    from .merge import MergeStats as MergeStats
    from .merge import afollow_merged as afollow_merged
    from .merge import follow_merged as follow_merged
    from .records import ReplayPage as ReplayPage
    from .records import RunsPage as RunsPage
    from .records import RunSummary as RunSummary
    from .stages import StageHandle as StageHandle
    from .stages import astage as astage
    from .stages import stage as stage
    from .stages import stage_failed as stage_failed
    from .stages import stage_queued as stage_queued
    from .stages import stage_skipped as stage_skipped
    from .stages import stage_started as stage_started
    from .stages import stage_succeeded as stage_succeeded

__getattr__, __all__ = exporter(
    __name__,
    {
        "fold": "StageView fold_stages",
        "lanes": "merge_lanes parallel_merge",
        "merge": "AsyncMergedFollower MergeStats MergedFollower afollow_merged follow_merged",
        "records": "ReplayPage RunSummary RunsPage",
        "stages": "StageHandle astage stage stage_failed stage_queued stage_skipped stage_started stage_succeeded",
    },
)

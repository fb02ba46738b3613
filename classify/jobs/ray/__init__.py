"""Jobs on many machines, with Ray.

`ray_pool` lets a job's texts be scored by workers of a cluster, for `JobRun.pool`;
`classify_dataset` adds results to a dataset of Ray.
"""

from classify.jobs.ray.dataset import classify_dataset
from classify.jobs.ray.pool import ray_pool

__all__ = ["classify_dataset", "ray_pool"]

"""Jobs on many machines, with Ray.

`ray_compute` lets a job's texts be scored by workers of a cluster, for
`classify.jobs.run.run_job`; `classify_dataset` adds results to a dataset of Ray.
"""

from classify.jobs.ray.compute import ray_compute
from classify.jobs.ray.dataset import classify_dataset

__all__ = ["classify_dataset", "ray_compute"]

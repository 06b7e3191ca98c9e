# SPDX-License-Identifier: Apache-2.0
"""The cluster files, checked with Ray's own schema, defaults and parsers. Nothing is launched."""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent
LAUNCHER = ROOT / "ray_cluster.yaml"
RAY_JOB = ROOT / "examples" / "kuberay_job.yaml"

# Fields of KubeRay's RayJob v1 types (ray-operator/apis/ray/v1); an unknown one would be dropped in silence.
RAY_JOB_FIELDS = {
    "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
    "activeDeadlineSeconds", "backoffLimit", "submitterPodTemplate", "submitterConfig", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "metadata", "clusterSelector", "suspend", "managedBy",
    "deletionStrategy", "rayClusterSpec",
}  # fmt: skip
RAY_CLUSTER_FIELDS = {
    "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions", "gcsFaultToleranceOptions",
    "headServiceAnnotations", "headGroupSpec", "workerGroupSpecs", "suspend", "managedBy",
}  # fmt: skip
GROUP_FIELDS = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "idleTimeoutSeconds", "rayStartParams",
    "template", "labels", "resources", "scaleStrategy", "suspend",
}  # fmt: skip


def ray_version() -> str:
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["mill"]
    return next(re.findall(r"==([\d.]+)", line)[0] for line in pinned if line.startswith("ray["))


@pytest.fixture(scope="module")
def launcher() -> dict[str, Any]:
    return yaml.safe_load(LAUNCHER.read_text())


@pytest.fixture(scope="module")
def ray_job() -> dict[str, Any]:
    return yaml.safe_load(RAY_JOB.read_text())


def autoscaling_config(ray_job: dict[str, Any]) -> dict[str, Any]:
    """What Ray's autoscaler makes of the job's cluster."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    return _derive_autoscaling_config_from_ray_cr(
        {"metadata": ray_job["metadata"], "spec": ray_job["spec"]["rayClusterSpec"]}
    )


def test_launcher_passes_rays_schema(launcher: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(launcher)
    filled = prepare_config(copy.deepcopy(launcher))
    validate_config(filled)
    assert set(filled["available_node_types"]) == {"head", "cpu_spot", "gpu"}, "Ray's default types were mixed in"


def test_rays_schema_would_catch_a_typo(launcher: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    broken = copy.deepcopy(launcher)
    broken["available_node_types"]["gpu"]["max_worker"] = 1
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(broken)


def test_launcher_keeps_work_off_the_head(launcher: dict[str, Any]) -> None:
    head, cpu, gpu = (launcher["available_node_types"][name] for name in ("head", "cpu_spot", "gpu"))
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"], "losing the head ends the job"
    assert cpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert gpu["resources"]["GPU"] == 1
    assert cpu["max_workers"] + gpu["max_workers"] <= launcher["max_workers"]
    assert "--dashboard-host=127.0.0.1" in launcher["head_start_ray_commands"][-1]


def test_one_ray_version_everywhere(launcher: dict[str, Any], ray_job: dict[str, Any]) -> None:
    version = ray_version()
    assert f":{version}-py311" in launcher["docker"]["image"]
    assert f"ray[default]=={version}" in LAUNCHER.read_text()
    assert ray_job["spec"]["rayClusterSpec"]["rayVersion"] == version


def test_ray_job_has_only_published_fields(ray_job: dict[str, Any]) -> None:
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert ray_job["apiVersion"] == "ray.io/v1"
    assert ray_job["kind"] == "RayJob"
    assert set(ray_job["spec"]) <= RAY_JOB_FIELDS
    assert set(cluster) <= RAY_CLUSTER_FIELDS
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group) <= GROUP_FIELDS
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "Kubernetes wants strings"


def test_rays_autoscaler_reads_the_ray_job(ray_job: dict[str, Any]) -> None:
    types = autoscaling_config(ray_job)["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["cpu-spot"]["resources"]["CPU"] == 15
    assert types["cpu-spot"]["max_workers"] == 8
    assert types["gpu"]["resources"] == {"CPU": 14, "GPU": 1, "memory": 100 << 30}


def test_ray_job_offers_what_its_entrypoint_waits_for(ray_job: dict[str, Any]) -> None:
    from pipelines.cli import parse_workers

    types = autoscaling_config(ray_job)["available_node_types"]
    wanted = re.findall(r"--workers (\S+)", ray_job["spec"]["entrypoint"])[0]
    num_cpus, num_gpus = parse_workers(wanted)
    assert sum(kind["max_workers"] * kind["resources"]["CPU"] for kind in types.values()) >= (num_cpus or 0) + 2
    assert sum(kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in types.values()) >= num_gpus


def test_launcher_offers_what_its_example_waits_for(launcher: dict[str, Any]) -> None:
    from pipelines.cli import parse_workers

    num_cpus, num_gpus = parse_workers(re.findall(r"--workers (\S+)", LAUNCHER.read_text())[0])
    kinds = [kind for name, kind in launcher["available_node_types"].items() if name != "head"]
    assert sum(kind["max_workers"] * kind["resources"]["CPU"] for kind in kinds) >= (num_cpus or 0) + 2
    assert sum(kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in kinds) >= num_gpus


def test_every_pod_has_shared_memory_and_scratch(ray_job: dict[str, Any]) -> None:
    cluster = ray_job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert "/tmp" in mounts
        store_bytes = int(group["rayStartParams"]["object-store-memory"])
        assert store_bytes < int(mounts["/dev/shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi")) << 30

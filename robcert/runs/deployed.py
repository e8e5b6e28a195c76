"""Examples of a run, tried on the model where it is deployed."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from robcert.errors import UsageError
from robcert.files import write_text
from robcert.network.deployed import Deployed
from robcert.runs.artefacts import artefact_name
from robcert.runs.directory import read_spec
from robcert.runs.files import explained
from robcert.runs.record import DeployedRecord, ModelRecord, RunRecord
from robcert.types import LoadedModel


def verify(record: RunRecord, models: list[LoadedModel], device: str = "cpu") -> RunRecord:
    """Return the record with a count, for each model, of the examples that onnxruntime gets wrong too.

    It replaces the record in the run directory.

    Args:
        record: of a finished run that was stored.
        models: its models, in its order; those that are no ONNX files are exported for this.
        device: "cuda" asks for the GPU provider; the record says what really ran.

    Raises:
        UsageError: the run was kept in memory.
        EvaluationError: onnxruntime cannot execute a model, or a model cannot be exported.
    """
    if record.run is None:
        raise UsageError("the examples of this run were not stored", "Name a run directory: run=... or --run")
    directory = Path(record.run)
    spec = read_spec(directory)
    found: list[ModelRecord] = []
    for number, (model, given) in enumerate(zip(record.models, models, strict=True)):
        examples = directory / f"adversarials-{artefact_name(spec, number)}.safetensors"
        found.append(model.model_copy(update={"deployed": _deployed(examples, given, device)}))
    record = record.model_copy(update={"models": found})
    with explained(directory):
        write_text(directory / "record.json", record.to_json())
    return record


def _deployed(examples: Path, model: LoadedModel, device: str) -> DeployedRecord:
    import onnxruntime

    tensors = load_file(examples)
    labels = tensors["label"]
    deployed = Deployed(model, device)
    answers = deployed(tensors["adversarial"]).argmax(dim=1) if len(labels) else labels
    held = answers == labels
    return DeployedRecord(
        version=str(onnxruntime.__version__),
        provider=deployed.provider,
        asked=deployed.asked,
        exported=deployed.exported,
        examples=len(labels),
        fooled=int((~held).sum()),
        failed=tensors["index"][held].tolist(),
    )

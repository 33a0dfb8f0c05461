"""A tuned adapter to give away: PEFT's folder with a model card that says what it was trained on and how it does."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from a3tune.errors import DataError
from a3tune.storage import read_json, write_text
from a3tune.training.event_log import EVENTS_NAME
from a3tune.training.run_folder import RUN_NAME, RunFolder

CARD_NAME = "README.md"

_METHODS = {
    "a3": "A3Tune: A3MoE experts on queries and keys, and alignment of attention with regions",
    "lora": "LoRA on every linear layer of the language model",
    "lora+align": "LoRA with alignment of attention with regions",
    "a3moe": "A3MoE experts on queries and keys, without alignment",
}
_ABLATIONS = ("no_alignment", "no_query_experts", "no_key_experts", "no_head_selection")
_FIGURES = {
    "loss": ("Loss (cross-entropy of the answers' tokens)", "{:.4f}"),
    "accuracy": ("Answers exactly right", "{:.1%}"),
    "closed_accuracy": ("Closed questions exactly right", "{:.1%}"),
    "open_accuracy": ("Open questions exactly right", "{:.1%}"),
    "attention_mass": ("Attention of the critical heads inside the regions", "{:.1%}"),
}

# What values of other types make of the sentences of a card.
_ODD_VALUES = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, yaml.YAMLError)


def adapter_files(run: RunFolder) -> dict[str, bytes]:
    """Name -> content of everything that is given away: settings, weights, and the card.

    Paths of this machine are left out: a base model that lies in a folder is named by the folder's own name.

    Raises:
        DataError: the run has no adapter yet, or came from elsewhere and its record tells what no run of ours does.
    """
    record = run.read()
    if record is None or not (run.adapter / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise DataError(
            expected="a run with an adapter",
            got="This run has none yet",
            remedy="Let it go on to its first checkpoint, or stop it with its checkpoint kept",
        )
    settings = read_json(run.adapter / CONFIG_NAME)
    try:
        settings["base_model_name_or_path"] = base_name(record)
        card = model_card(record, run.event_log.each()).encode()
    except _ODD_VALUES as error:
        raise DataError(
            expected="a record as this project's runs write it",
            got=f"{RUN_NAME} or {EVENTS_NAME} holds another kind of value than a run writes there",
            remedy="Take the adapter out of the archive that the run came in",
        ) from error
    return {
        CONFIG_NAME: (json.dumps(settings, indent=2) + "\n").encode(),
        SAFETENSORS_WEIGHTS_NAME: (run.adapter / SAFETENSORS_WEIGHTS_NAME).read_bytes(),
        CARD_NAME: card,
    }


def write_card(run: RunFolder) -> None:
    """Put the card, as the run stands, beside the adapter; nothing where there is none yet.

    Raises:
        OSError: it cannot be written.
    """
    record = run.read()
    if record is not None and run.adapter.is_dir():
        write_text(run.adapter / CARD_NAME, model_card(record, run.event_log.each()))


def zip_adapter(run: RunFolder) -> bytes:
    """The files of `adapter_files` as a ZIP archive.

    Raises:
        DataError: as `adapter_files`.
    """
    return _packed(adapter_files(run))


def zip_folder(folder: Path) -> bytes:
    """The files of an adapter that belongs to no run as a ZIP archive: settings, weights and card, where it has one.

    Args:
        folder: a folder that `a3tune.training.adapter_intake` has checked.
    """
    names = (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, CARD_NAME)
    return _packed({name: (folder / name).read_bytes() for name in names if (folder / name).is_file()})


def _packed(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # A fixed date: the same adapter gives the same archive.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def base_name(record: Mapping[str, Any]) -> str:
    """The base model's name without the folders of this machine."""
    source = str(record["model"]["source"])
    return Path(source).name if Path(source).is_absolute() or source.startswith(("~", ".")) else source


def model_card(record: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str:
    """The card in Markdown with the hub's header.

    Args:
        record: the run's ``run.json``.
        events: the run's events.
    """
    config, data = record["config"], record["data"]
    base = base_name(record)
    best, count = None, 0
    for event in events:
        if event.get("event") == "validation":
            best, count = event if event.get("best") else best, count + 1
    head = {
        "library_name": "peft",
        "pipeline_tag": "image-text-to-text",
        "tags": ["medical", "radiology", "visual-question-answering", "attention-alignment", config["method"]],
    }
    # The hub links to the base by this; a name that is no hub id would be refused.
    if "/" in base:
        head["base_model"] = base
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# Adapter for {base}",
        "**For research only. Not a medical device: do not use it for diagnosis or treatment.**",
        f"{_METHODS[config['method']]}. Trained with A3Tune Studio.",
        "## Data\n\n" + _data(data, record),
        "## Figures\n\n" + _figures(best, count),
        "## Settings\n\n" + _settings(config, record),
        "## Limits\n\n" + _limits(record, best),
        "## Use\n\n" + _use(base, config),
    ]
    return "\n\n".join(sections) + "\n"


def _data(data: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    counts = record.get("counts", {})
    splits = ", ".join(f"{count} {name}" for name, count in counts.get("splits", {}).items())
    targets = record.get("targets") or {}
    lines = [
        f"* {data['questions']} questions about {counts.get('images', 'some')} images ({splits})",
        f"* Fingerprint of questions, answers and images: `{data['fingerprint']}`",
    ]
    known = {"weak": "weak labels", "truth": "masks of the data itself", "none": "no region"}
    where = [f"{targets[name]} with {words}" for name, words in known.items() if targets.get(name)]
    if where:
        lines.append(f"* Where attention should go, over the training questions: {', '.join(where)}")
    labels = record.get("label_settings")
    if labels:
        lines.append(f"* Weak labels: regions by {labels.get('segmenter')}, ranked by {labels.get('scorer')}")
    return "\n".join(lines)


def _figures(best: Mapping[str, Any] | None, count: int) -> str:
    if best is None:
        return "None: the run had no validation questions."
    rows = [(title, form.format(best[name])) for name, (title, form) in _FIGURES.items() if best.get(name) is not None]
    table = "\n".join(f"| {title} | {value} |" for title, value in rows)
    return (
        f"On {best.get('questions', 'the')} validation questions, at step {best['step']}, the best of {count} "
        f"validations by loss, whose weights these are.\n\n| | |\n| --- | --- |\n{table}"
    )


def _settings(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    ablations = [name.replace("_", " ") for name in _ABLATIONS if config.get(name)]
    started = datetime.fromtimestamp(record["started"], timezone.utc).date() if "started" in record else None
    lines = [
        f"* Steps made: {record.get('step', 'unknown')} of {record.get('steps', 'unknown')}, {record.get('status')}",
        f"* Trainable parameters: {record['trainable_parameters']:,}" if "trainable_parameters" in record else "",
        f"* Ablations: {', '.join(ablations)}" if ablations else "",
        f"* Started: {started}" if started else "",
        f"* Versions: {', '.join(f'{name} {version}' for name, version in record.get('versions', {}).items())}",
    ]
    values = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return "\n".join(line for line in lines if line) + f"\n\n```yaml\n{values}```"


def _limits(record: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    lines = [
        "* The figures are about the data above and say nothing about other patients, devices or houses.",
        "* Exactly right means word for word; a right answer in other words counts as wrong.",
        "* Attention is evidence about a model, not a proof of why it answered as it did.",
    ]
    if record.get("status") != "finished":
        lines.insert(0, "* The run was not finished when this card was written.")
    if best is not None and best.get("questions", 0) < 100:
        lines.append("* Fewer than 100 validation questions: the figures are rough.")
    if record["model"]["source"] == "demo":
        lines.append("* The base is a tiny demo model that knows synthetic phantoms only.")
    return "\n".join(lines)


def _use(base: str, config: Mapping[str, Any]) -> str:
    experts = config["method"] in ("a3", "a3moe")
    load = "import a3tune  # tells PEFT this kind of adapter\n" if experts else ""
    return (
        "In A3Tune Studio: load the folder or its ZIP in the Tune tab. On the command line:\n\n"
        f'```sh\npython -m a3tune inspect --model {base} --adapters base,PATH --image F --question "..." --out result\n'
        f"```\n\nWith PEFT:\n\n```python\n{load}from peft import PeftModel\n\n"
        'model = PeftModel.from_pretrained(base_model, "PATH")\n```'
    )

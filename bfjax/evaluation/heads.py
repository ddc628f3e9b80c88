"""What is asked of models whose outputs are findings: one of them, or all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from bfjax import data
from bfjax.evaluation.classes import ANY
from bfjax.evaluation.targets import Target, num_outputs
from bfjax.types import Image, Predict


def head_names(
    target: Target, class_names: Sequence[str], image_shape: tuple[int, ...]
) -> tuple[str, ...]:
    """What the outputs of a model are.

    Args:
      target: the model.
      class_names: what they are where the model does not say it; none where nobody does.
      image_shape: (h, w, c) of the images it takes.

    Returns:
      A name for each output, numbers from 0 where nobody says it.

    Raises:
      ValueError: there are more or fewer names than outputs.
    """
    count = num_outputs(target.predict, image_shape, model=target.name)
    names = tuple(target.config.class_names or class_names or map(str, range(count)))
    if len(names) != count:
        raise ValueError(
            f"{target.name} has {count} outputs, and there are {len(names)} names for them: "
            f"{', '.join(names)}"
        )
    return names


def finding_name(finding: str, known: Sequence[str]) -> str:
    """The name of a finding that may be given by its number.

    Args:
      finding: a name, a number from 0, or `ANY`.
      known: names of the model's outputs, as far as they are known.

    Returns:
      Its name; the number itself where nobody knows it.

    Example:
      >>> finding_name("1", ["Edema", "Mass"]), finding_name("Mass", [])
      ('Mass', 'Mass')
    """
    if finding not in known and finding.isdecimal() and int(finding) < len(known):
        return known[int(finding)]
    return finding


def asked(target: Target, finding: str, names: Sequence[str]) -> Target:
    """A model as it answers whether a finding is there; of all findings, the model itself.

    Args:
      target: whose outputs are findings.
      finding: a name, or `ANY`.
      names: of its outputs.

    Returns:
      The model with one output, which tells two classes apart; or with all, under their names.

    Raises:
      ValueError: it has no such finding.

    Example:
      >>> from bfjax.models import Checkpoint
      >>> whole = Target("model", lambda image: image[0, :3, 0], Checkpoint("model", {}, ""))
      >>> one = asked(whole, "Mass", ["Edema", "Mass", "Nodule"])
      >>> one.config.class_names, one.predict(jnp.asarray([[[1.0], [2.0], [3.0]]])).tolist()
      (('no Mass', 'Mass'), [2.0])
    """
    if finding == ANY:
        config = dataclasses.replace(target.config, class_names=tuple(names))
        return dataclasses.replace(target, config=config)
    if finding not in names and names != ("0",):  # one output that nobody has named
        raise ValueError(
            f"--finding {finding} is none of the outputs of {target.name}: {', '.join(names)}; "
            f"--class-names says what they are, and --finding {ANY} attacks all"
        )
    index = list(names).index(finding) if finding in names else 0
    config = dataclasses.replace(target.config, class_names=two_classes(finding))
    predict = Partial(_one_head, target.predict, jnp.int32(index))
    return dataclasses.replace(target, predict=predict, config=config)


def of_finding(source: data.Source, finding: str) -> data.Source:
    """Images with labels that say whether a finding is there, or say it of all.

    Args:
      source: of any labels, or of none.
      finding: a name, or `ANY`.

    Returns:
      Images of two classes, or with findings; those without labels as they are.

    Raises:
      ValueError: the source does not tell of the finding.

    Example:
      >>> whole = data.load("phantom", "test", num_examples=2, image_size=32)
      >>> of_finding(whole, "PNEUMONIA").class_names
      ('no PNEUMONIA', 'PNEUMONIA')
    """
    if len(source.class_names) < 2 and source.findings is None:
        return source
    if finding == ANY:
        return data.Findings(source)
    if source.class_names == two_classes(finding):
        return source
    return data.Finding(source, finding)


def two_classes(finding: str) -> tuple[str, str]:
    """What images without and with a finding are called.

    Args:
      finding: its name.

    Returns:
      The two classes, the second with it.
    """
    return f"no {finding}", finding


def _one_head(predict: Predict, index: Array, image: Image) -> Float[Array, " 1"]:
    return predict(image)[index][None]

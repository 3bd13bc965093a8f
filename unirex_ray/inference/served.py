"""An exported model as MLflow serves it: this file is stored with the model, and run by MLflow where that is loaded.

What it calls, `unirex_ray.load_model`, is not stored: the package has to be installed where the model is served.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array, Map

from unirex_ray.errors import UserError
from unirex_ray.inference.model import LoadedModel, load_model
from unirex_ray.models.card import ModelCard

ARTIFACT = "model"
"""Under which the exported folder is stored."""
TEXT, SECOND, CHOICES = "text", "second", "choices"
TOP_K_PERCENT = "top_k_percent"


class ServedModel(PythonModel):
    """Predicts texts and gives their rationales, a row for each; see `signature_of`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the exported folder that is stored with this file.

        Raises:
            UserError: as `load_model`.
        """
        self._model: LoadedModel = load_model(context.artifacts[ARTIFACT])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Explain texts.

        Args:
            context: of MLflow; not used.
            model_input: a row per text, in the columns of `signature_of`.
            params: `top_k_percent`, size of the rationale, from 1 to 100; default: 20.

        Raises:
            MlflowException: for what `LoadedModel.explain` refuses; a server answers with status 400 and the message.
        """
        k = (params or {}).get(TOP_K_PERCENT, 20)
        try:
            explanations = self._model.explain(texts_of(model_input), top_k_percent=int(k))
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        rows = [
            {
                "label": explanation.predicted,
                "probability": explanation.probability,
                "probabilities": explanation.probabilities,
                "rationale": explanation.rationale(),
                "complement_probability": explanation.complement_probability,
                "rationale_probability": explanation.rationale_probability,
            }
            for explanation in explanations
        ]
        return pd.DataFrame(rows, columns=_OUTPUTS.input_names())


_OUTPUTS = Schema(
    [
        ColSpec(DataType.string, "label"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
        ColSpec(Array(DataType.string), "rationale"),
        ColSpec(DataType.double, "complement_probability"),
        ColSpec(DataType.double, "rationale_probability"),
    ]
)


def signature_of(card: ModelCard) -> ModelSignature:
    r"""What a served model reads and gives.

    It reads the column `text`, for pairs `second` as well, and for multi-choice `choices` alone: a list of texts in the
    order of the labels, or of lists of two. It gives the predicted `label`, its `probability` p(x), `probabilities` by
    label, the `rationale` as a list of phrases, and the label's p(x \ r) and p(r).
    """
    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, TEXT)]
    if card.segments != 1:
        columns.append(ColSpec(DataType.string, SECOND, required=card.segments == 2))
    if card.multi_choice:
        text = Array(DataType.string) if card.segments == 2 else DataType.string
        columns = [ColSpec(Array(text), CHOICES)]
    params = ParamSchema([ParamSpec(TOP_K_PERCENT, DataType.long, 20)])
    return ModelSignature(inputs=Schema(columns), outputs=_OUTPUTS, params=params)


def texts_of(frame: pd.DataFrame) -> list[Any]:
    """The rows of a frame as `LoadedModel.explain` reads them."""
    if CHOICES in frame:
        return [_plain(choices) for choices in frame[CHOICES]]
    if SECOND not in frame:
        return list(frame[TEXT])
    pairs = zip(frame[TEXT], frame[SECOND], strict=True)
    return [(text, second) if isinstance(second, str) else text for text, second in pairs]


def _plain(value: Any) -> Any:
    """Lists instead of arrays."""
    return value if isinstance(value, str) else [_plain(inner) for inner in value]


set_model(ServedModel())

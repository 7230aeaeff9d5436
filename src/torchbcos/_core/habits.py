"""What users of other libraries type in Python, and what it is here: each sentence goes on after the word.

The door, `Classifier` and `Explanation` look a name up here once it is not found; it stays an AttributeError, so `hasattr`,
`copy`, `pickle` and notebooks go on as before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torchbcos._core.names import hint, said

__all__ = ["CLASSIFIER", "CLASSIFIER_CLASS", "DOOR", "EXPLANATION", "no_attribute", "no_name"]


_NETWORK = "it is one of the network: clf.model; load(…, device='cuda') puts it on a device, and it is in eval mode already"
_PROBABLE = "clf.predict(images, top_k=5) gives label, probability and logit; clf.explain(images).probabilities() all of them"
_EXPLAINS = "it is clf.explain(images, targets=…) here: an Explanation, whose contributions are the attribution"
_TRAINS = "'torchbcos train' in a shell trains, torchbcos.training.train(recipe, data, out) in Python; a Classifier answers"
_READS = "it is clf.transform; clf.preprocess(images) gives its tensors"
_NAMES = "they are clf.class_names, in the order of the outputs"
_SAVES = "it is torchbcos.save(clf, FOLDER), and torchbcos.load(FOLDER) reads it"
_LOADS = "it is torchbcos.load(NAME_OR_FOLDER)"
_DRAWS = "e.panel(i, k) is a PIL image, which a notebook shows; e.save(FILE) writes it, e.savesaid_of(FOLDER) all of them"
_MAPS = "e.contributions (N, K, *S) are the signed numbers that add up, e.weights (N, K, C, *S) the rows of W(x)"
_TENSORS = "e.to('cpu'), e.detach() and e.save_arrays(FILE.npz) are of the whole; e.contributions and the like are tensors"
_TRAIN = "it is torchbcos.training.train(recipe, data, out), or 'torchbcos train' in a shell"
_EXPLAIN = "it is torchbcos.explain(model, x, targets), or torchbcos.load(…).explain(images)"
_CREATES = "torchbcos.create_model(NAME) builds a network, torchbcos.load(NAME) one with weights"

DOOR: Mapping[str, str] = {
    **said("train fit finetune fine_tune Trainer", _TRAIN),
    **said("evaluate test eval", "torchbcos.evaluation measures, or 'torchbcos evaluate' in a shell"),
    **said("predict classify infer", "it is torchbcos.load(NAME_OR_FOLDER).predict(images)"),
    **said("attr saliency heatmap interpret", _EXPLAIN),
    **said("models_list available_models model_names", "it is torchbcos.list_models()"),
    **said("load_model from_pretrained get_model pipeline AutoModel", "it is torchbcos.load(NAME_OR_FOLDER)"),
    **said("model build_model Model", _CREATES),
    **said("save_model to_disk dump", "it is torchbcos.save(classifier, FOLDER)"),
    **said("Preprocess transforms", "it is torchbcos.pictures.Preprocess"),
    **said("to_onnx export_onnx onnx", "it is torchbcos.export(classifier, 'FILE.onnx')"),
    **said("AddInverse BcosConv2d BcosLinear layers modules", "layers are in torchbcos.nn"),
    **said("datasets", "data is read by torchbcos.data"),
    **said("check_model check", "it is torchbcos.testing.check_model"),
}  # fmt: skip

_FAMILIES = re.compile(r"(?:bcos_?)?(?:resnet|resnext|wide_resnet|densenet|vgg|convnext|vit|simple_vit)\w*", re.IGNORECASE)

CLASSIFIER: Mapping[str, str] = {
    **said("predict_proba predict_probability predict_log_proba decision_function score classify infer", _PROBABLE),
    **said("attributions attr interpret saliency heatmap explain_instance shap_values", _EXPLAINS),
    **said("fit train finetune partial_fit", _TRAINS),
    **said("eval to cuda cpu half float parameters state_dict named_modules modules device zero_grad", _NETWORK),
    **said("forward logits", "clf.model(clf.preprocess(images)) gives the logits"),
    **said("network net module backbone", "the network is clf.model"),
    **said("classes classes_ labels names id2label categories label_names num_classes n_classes", _NAMES),
    **said("save save_pretrained dump to_disk save_model", _SAVES),
    **said("load from_pretrained load_model load_state_dict", _LOADS),
    **said("transforms preprocessor processor feature_extractor", _READS),
    **said("config metadata info meta", "what is known of the weights is clf.card"),
    **said("export to_onnx onnx", "it is torchbcos.export(clf, 'FILE.onnx')"),
    **said("evaluate test accuracy", "torchbcos.evaluation measures, or 'torchbcos evaluate' in a shell"),
}  # fmt: skip

CLASSIFIER_CLASS: Mapping[str, str] = {**said("load from_pretrained load_model from_folder open", _LOADS)}

EXPLANATION: Mapping[str, str] = {
    **said("show plot visualize visualise draw imshow display image figure overlay savefig", _DRAWS),
    **said("attributions attribution attr heatmaps maps map saliency relevance scores", _MAPS),
    **said("numpy cpu cuda tensor data", _TENSORS),
    **said("logits logit output", "e.outputs (N, classes) are all logits, e.values (N, K) those that are explained"),
    **said("target classes class_index", "e.targets (N, K) are indices; e.label(int(e.targets[i, k])) is a name"),
    **said("bias biases", "e.constants maps the name of every constant to its contribution (N, K)"),
    **said("delta convergence_delta error", "e.residual (N, K) is what contributions and constants leave of the value"),
    **said("to_json json dict as_dict", "it is e.to_dict()"),
    **said("W w weight", "the rows of W(x) are e.weights (N, K, C, *S)"),
    **said("x image_tensor input", "what the network saw is e.inputs (N, C, *S)"),
}  # fmt: skip


def no_attribute(owner: str, name: str, habits: Mapping[str, str], known: Iterable[str]) -> AttributeError:
    """The error that `owner` has no such attribute: with what it is here, or the nearest names; bare for private names.

    >>> str(no_attribute("A Classifier", "classes", CLASSIFIER, []))
    "A Classifier has no attribute 'classes': they are clf.class_names, in the order of the outputs."
    >>> str(no_attribute("A Classifier", "__deepcopy__", CLASSIFIER, ["predict"]))
    "A Classifier has no attribute '__deepcopy__'."
    """
    missing = f"{owner} has no attribute {name!r}"
    if name in habits:
        return AttributeError(f"{missing}: {habits[name]}.")
    near = "" if name.startswith("_") else hint(name, [word for word in known if not word.startswith("_")])
    return AttributeError(f"{missing}.{near}")


def no_name(name: str, known: Iterable[str]) -> AttributeError:
    """The error that the package has no such name; networks, which torchvision has as functions, are built by theirs.

    >>> str(no_name("vgg11", [])).partition(": ")[2]
    "networks are built by name: torchbcos.create_model('vgg11'), or torchbcos.load('vgg11') with weights."
    """
    habits = dict(DOOR)
    if _FAMILIES.fullmatch(name):
        habits[name] = f"networks are built by name: torchbcos.create_model({name!r}), or torchbcos.load({name!r}) with weights"
    return no_attribute("module 'torchbcos'", name, habits, known)

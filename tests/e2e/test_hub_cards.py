"""validate-yaml: what a card must say, asked as the stock client asks and as its commits do."""
import warnings

import pytest
from huggingface_hub import DatasetCard, EvalResult, HfApi, ModelCard, ModelCardData, SpaceCard, constants

from test_hub import Hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("cards") / "data")
    yield h
    h.stop()


def ask(hub, yaml, type="model", **headers):
    return hub.ask("POST", "/api/validate-yaml", {"content": f"---\n{yaml}\n---\n# Title\n", "repoType": type}, headers=headers)


def said(hub, yaml, type="model"):
    r = ask(hub, yaml, type)
    o = r.json()
    errors, hints = ([x["message"] for x in o[k]] for k in ("errors", "warnings"))
    assert r.status == (400 if errors else 200)
    return errors, hints


def test_the_stock_client_validates(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    data = ModelCardData(language=["en", "yue"], license="apache-2.0", tags=["a"], datasets=["org/words", "squad"], base_model="org/base", library_name="transformers", model_name="tiny",
                         pipeline_tag="text-generation",
                         eval_results=[EvalResult(task_type="text-generation", dataset_type="squad", dataset_name="SQuAD", metric_type="f1", metric_value=0.5, dataset_config="plain")])
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n# tiny\n")
    card.validate()
    card.data.license = "asdf"
    with pytest.raises(ValueError, match=r'^- Error: "license" must be one of \[apache-2.0, mit, .*, unknown, other, array\]$'):
        card.validate()
    DatasetCard("---\nlicense: mit\ntask_categories: [text-generation]\nconfigs:\n- config_name: a\n  data_files: a.csv\n---\n").validate()
    with pytest.raises(ValueError, match='"colorFrom" must be one of'):
        SpaceCard("---\nsdk: docker\ncolorFrom: beige\ncolorTo: red\n---\n").validate()
    ModelCard("# without metadata\n").validate()


def test_a_commit_of_the_stock_client_is_stopped(hub):
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("admin/cards")
    with pytest.raises(ValueError, match='Invalid metadata in README.md.\n- "license" must be one of'):
        api.upload_file(path_or_fileobj=b"---\nlicense: asdf\n---\n", path_in_repo="README.md", repo_id="admin/cards")
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter("always")
        api.upload_file(path_or_fileobj=b"---\npipeline_tag: text-to-smell\n---\n", path_in_repo="README.md", repo_id="admin/cards")
    assert any('The pipeline_tag "text-to-smell" is not in the official list: text-classification, ' in str(x.message) for x in w)


@pytest.mark.parametrize("yaml,errors", [
    ("license: MIT", ['"license" must be one of']),
    ("license: [mit, nope]", ['"license[1]" must be one of']),
    ("license: other\nlicense_name: mine\nlicense_link: LICENSE", []),
    ("license: other\nlicense_name: [a]", ['"license_name" must be a string']),
    ("language: english", ['"language" with value "english" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code (two/three letters), or a special value like "code", "multilingual".']),
    ("language: [en, pt_pt, EN, 7]", ['"language[1]" with value "pt_pt"', '"language[2]" with value "EN"', '"language[3]" must be a string']),
    ("language: [en, zho, code, multilingual]", []),
    ("tags: small", ['"tags" must be an array']),
    ("tags: [a, [b], 3]", ['"tags[1]" must be a string', '"tags[2]" must be a string']),
    ("base_model: /workspace/out", ['"base_model" with value "/workspace/out" is not valid. Use a model id from https://hf.co/models.']),
    ("base_model: [org/a, 'Kokoro 82M']", ['"base_model[1]" with value "Kokoro 82M"']),
    ("base_model_relation: cousin", ['"base_model_relation" must be one of [adapter, merge, quantized, finetune]']),
    ("library_name: [a]", ['"library_name" must be a string']),
    ("model-index: x", ['"model-index" must be an array']),
    ("model-index:\n- results: []", ['"model-index[0].name" is required']),
    ("model-index:\n- name: a", ['"model-index[0].results" is required']),
    ("model-index:\n- name: a\n  results:\n  - task: {type: t}\n    metrics: 3", ['"model-index[0].results[0].metrics" must be an array']),
    ("model-index:\n- name: a\n  results:\n  - task: {name: t}\n    dataset: {type: d}\n    metrics:\n    - value: 1\n      config: {a: 1}\n    - type: f1",
     ['"model-index[0].results[0].task.type" is required', '"model-index[0].results[0].dataset.name" is required', '"model-index[0].results[0].metrics[0].type" is required',
      '"model-index[0].results[0].metrics[0].config" must be a string', '"model-index[0].results[0].metrics[1].value" is required']),
    ("model-index:\n- name: a\n  results:\n  - task: {type: t}\n    dataset: {type: d, name: D, config: [x]}\n    metrics: [{type: f1, value: 1, verified: maybe}]",
     ['"model-index[0].results[0].dataset.config" must be a string', '"model-index[0].results[0].metrics[0].verified" must be a boolean']),
    ("x_other: [1, {a: b}]\nwidget: []", []),
    ("- a\n- b", ['"value" must be of type object']),
], ids=range(21))
def test_models(hub, yaml, errors):
    got, hints = said(hub, yaml)
    assert len(got) == len(errors) and all(g.startswith(e) for g, e in zip(got, errors)), got
    assert hints == []


def test_hints_are_no_errors(hub):
    assert said(hub, "datasets: [org/a, 'a b']") == ([], ['"datasets[1]" with value "a b" is not valid. If possible, use a dataset id from https://hf.co/datasets.'])
    errors, hints = said(hub, "task_categories: [text-generation, juggling]", "dataset")
    assert errors == [] and len(hints) == 1 and hints[0].startswith('The task_categories "juggling" is not in the official list: text-classification,')
    assert said(hub, "task_categories: [juggling]") == ([], []), "which is nothing of a model's"
    r = hub.ask("POST", "/api/validate-yaml", {"content": "# bare"})
    assert (r.status, r.json()) == (200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})


@pytest.mark.parametrize("type,yaml,error", [
    ("dataset", "task_categories: text-generation", '"task_categories" must be an array'),
    ("dataset", "configs: [{data_files: a}]", '"configs[0].config_name" is required'),
    ("dataset", "configs: a", '"configs" must be an array'),
    ("dataset", "dataset_info: a", '"dataset_info" must be one of [object, array]'),
    ("dataset", "pretty_name: [a]", '"pretty_name" must be a string'),
    ("space", "sdk: cobol", '"sdk" must be one of [gradio, streamlit, docker, static]'),
    ("space", "short_description: " + "é" * 61, '"short_description" length must be less than or equal to 60 characters long'),
    ("space", "pinned: 3", '"pinned" must be a boolean'),
    ("space", "models: a", '"models" must be an array'),
])
def test_datasets_and_spaces(hub, type, yaml, error):
    assert said(hub, yaml, type) == ([error], [])


def test_what_may_be_may_be(hub):
    assert said(hub, "configs:\n- config_name: a\ndataset_info:\n  features: []\nsize_categories: n<1K\nlicense: [mit, cc0-1.0]", "dataset") == ([], [])
    assert said(hub, "short_description: " + "é" * 60 + "\nsdk: static\npinned: true", "space") == ([], [])
    assert said(hub, "license:\nlanguage:\ntags:") == ([], [])


def test_many_errors_end(hub):
    errors, _ = said(hub, "tags: [" + ", ".join("1" for _ in range(10000)) + "]")
    assert len(errors) == 50
    r = ask(hub, "license: nope", Accept="text/plain")
    assert r.status == 400 and r.headers["Content-Type"].startswith("text/plain") and r.body.startswith(b'- Error: "license" must be one of [')
    r = ask(hub, "a: b: c", Accept="text/plain")
    assert r.status == 400 and r.body.startswith(b"- Error: ")

"""The PyTorch run: metrics by epoch, the model exported and pickled, and both served as they answer in the notebook."""

import mlflow
import mlflow.pytorch
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from tests.guide.blocks import X_test, X_train, y_test, y_train
from tests.guide.served import CURL_BODY, post, predictions, wait_until_served

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]

EPOCHS = 3


class SimpleNet(nn.Module):
    def __init__(self, input_dim, hidden_dim, output_dim):
        super().__init__()
        self.fc1 = nn.Linear(input_dim, hidden_dim)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.3)
        self.fc2 = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


def train(**log_model):
    """The guide's run; gives it, the trained model and the metrics of each epoch."""
    mlflow.set_experiment("pytorch-classification")
    config = {
        "input_dim": 4, "hidden_dim": 64, "output_dim": 3, "learning_rate": 0.001, "epochs": EPOCHS, "batch_size": 16,
    }  # fmt: skip
    history = {"train_loss": [], "val_accuracy": []}
    with mlflow.start_run(run_name="pytorch-simplenet") as run:
        mlflow.log_params(config)
        model = SimpleNet(config["input_dim"], config["hidden_dim"], config["output_dim"])
        criterion = nn.CrossEntropyLoss()
        optimizer = optim.Adam(model.parameters(), lr=config["learning_rate"])
        dataset = TensorDataset(torch.FloatTensor(X_train), torch.LongTensor(y_train))
        dataloader = DataLoader(dataset, batch_size=config["batch_size"], shuffle=True)
        for epoch in range(config["epochs"]):
            model.train()
            total_loss = 0
            for batch_X, batch_y in dataloader:
                optimizer.zero_grad()
                loss = criterion(model(batch_X), batch_y)
                loss.backward()
                optimizer.step()
                total_loss += loss.item()
            history["train_loss"].append(total_loss / len(dataloader))
            mlflow.log_metric("train_loss", history["train_loss"][-1], step=epoch)
            model.eval()
            with torch.no_grad():
                _, predicted = torch.max(model(torch.FloatTensor(X_test)), 1)
            history["val_accuracy"].append((predicted.numpy() == y_test).mean())
            mlflow.log_metric("val_accuracy", history["val_accuracy"][-1], step=epoch)
        mlflow.pytorch.log_model(
            model, "pytorch-model", registered_model_name="simplenet", pip_requirements=["torch"], **log_model
        )
    return run, model, history


@pytest.mark.parametrize(
    "log_model",
    [
        pytest.param({"input_example": X_train[:2].astype("float32")}, id="exported"),
        pytest.param({"serialization_format": "pickle"}, id="pickled"),
        pytest.param({"serialization_format": "pickle", "input_example": X_train[:1].astype("float32")}, id="signed"),
    ],
)
def test_a_network_is_served_with_the_answers_of_its_notebook(url, log_model):
    run, model, history = train(**log_model)
    client = MlflowClient()
    for key, values in history.items():
        points = client.get_metric_history(run.info.run_id, key)
        assert [(point.step, point.value) for point in points] == list(enumerate(values))
    assert client.get_run(run.info.run_id).data.params["hidden_dim"] == "64"

    client.set_registered_model_alias("simplenet", "champion", "1")
    wait_until_served(url, "simplenet", champion=1)
    with torch.no_grad():
        expected = model(torch.FloatTensor(X_test)).numpy()
    path = "/endpoints/simplenet/invocations"
    for key in ("inputs", "instances"):
        np.testing.assert_allclose(predictions(url, path, **{key: X_test.tolist()}), expected, rtol=1e-4, atol=1e-5)
    (answer,) = post(url, path, body=CURL_BODY).json()["predictions"]
    with torch.no_grad():
        np.testing.assert_allclose(answer, model(torch.tensor([[5.1, 3.5, 1.4, 0.2]]))[0], rtol=1e-4, atol=1e-5)

    loaded = mlflow.pyfunc.load_model("models:/simplenet@champion")
    np.testing.assert_allclose(loaded.predict(X_test.astype("float32")), expected, rtol=1e-4, atol=1e-5)
    refused = post(url, path, inputs=[[1.0, 2.0, 3.0]])
    assert (refused.status_code, set(refused.json())) == (400, {"error_code", "message"})

"""The accuracies that the source tutorial printed, to be shown beside this project's."""

# Version -> accuracy on the test set, the epochs trained where it says so, and why it is what it is.
TUTORIAL = {
    "mlp": {"accuracy": 0.9600, "epochs": 10, "note": ""},
    "mlp_batchnorm": {"accuracy": 0.9729, "epochs": 6, "note": ""},
    "cnn": {
        "accuracy": 0.4601,
        "epochs": None,
        "note": "its training images were divided by 255 twice more than its test images",
    },
}

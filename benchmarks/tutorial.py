"""The tutorial as one script, in plain Keras: the same data, versions, epochs and images as the pipeline.

Nothing of this project is used but the files that it downloaded. The images are normalised once, where the tutorial
did it three times.
"""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from pillow_heif import register_heif_opener

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "data/raw"


def read(split: str) -> tuple[np.ndarray, np.ndarray]:
    images = np.fromfile(RAW / f"{split}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28, 1)
    return images / np.float32(255), np.fromfile(RAW / f"{split}-labels-idx1-ubyte", np.uint8)[8:]


def dense_part() -> list:
    layers = keras.layers
    return [
        layers.BatchNormalization(),
        layers.Dense(200, activation="selu", kernel_initializer="lecun_normal"),
        layers.BatchNormalization(),
        layers.Dense(100, activation="selu", kernel_initializer="lecun_normal"),
        layers.BatchNormalization(),
        layers.Dense(10, activation="softmax"),
    ]


def main() -> None:
    layers = keras.layers
    sigmoid = [layers.Dense(100, activation="sigmoid"), layers.Dense(10, activation="softmax")]
    convolution = [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D()]
    versions = {  # layers, learning rate, share for validation; as many epochs as the pipeline trained
        "mlp": ([layers.Flatten(), *sigmoid], 0.1, 0.05),
        "mlp_batchnorm": ([layers.Flatten(), *dense_part()], 0.05, 0.1),
        "cnn": ([*convolution, layers.Flatten(), *dense_part()], 0.05, 0.1),
    }
    (images, labels), test = read("train"), read("t10k")
    for version, (stack, rate, split) in versions.items():
        epochs = len((ROOT / f"metrics/history/{version}.csv").read_text().splitlines()) - 1
        model = keras.Sequential([keras.Input((28, 28, 1)), *stack])
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels, epochs=epochs, validation_split=split, verbose=2)
        model.evaluate(*test, verbose=2)
    register_heif_opener()
    network = keras.applications.ResNet50(weights=None)
    network.load_weights(ROOT / "models/resnet50/resnet50_weights.h5")
    classes = json.loads((ROOT / "models/resnet50/imagenet_class_index.json").read_text())
    for path in sorted((ROOT / "data/sample_images").iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"))  # TensorFlow reads neither HEIC nor AVIF nor CMYK
        resized = tf.image.resize_with_pad(image, 224, 224, antialias=True)[None]
        (probabilities,) = network.predict(keras.applications.resnet.preprocess_input(resized), verbose=0)
        print(path.name, [classes[str(number)][1] for number in probabilities.argsort()[:-4:-1]])


if __name__ == "__main__":
    main()

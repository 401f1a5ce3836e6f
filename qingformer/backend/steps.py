"""Keras' training step on TensorFlow, with gradients that are whole."""

from typing import Any

import keras

from qingformer.backend.keras_internals import unscale_loss_for_distribution


def dense_train_step(model: Any, data: Any) -> Any:
    """`keras.Model.train_step` on TensorFlow, whose optimizer gets dense gradients.

    There an embedding has a gradient for every place of the text. Optimizers of Keras square these one by one and norms
    are taken over them, so a token that stands in a batch three times moved otherwise than on JAX and PyTorch.

    Example: `train_step` of a model returns `dense_train_step(self, data)`
    """
    import tensorflow as tf

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        predictions = model(x, training=True) if model._call_has_training_arg else model(x)
        loss = model._compute_loss(x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True)
        rows = tf.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        model._loss_tracker.update_state(unscale_loss_for_distribution(loss), sample_weight=rows)
        scaled = model.optimizer.scale_loss(loss)
    weights = model.trainable_weights
    gradients = [None if g is None else tf.convert_to_tensor(g) for g in tape.gradient(scaled, weights)]
    model.optimizer.apply_gradients(zip(gradients, weights))
    return model.compute_metrics(x, y, predictions, sample_weight=sample_weight)

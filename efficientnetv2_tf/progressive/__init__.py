"""Progressive learning: image size and regularisation that grow together while one `fit` runs.

Works with any Keras model and any tf.data pipeline (EfficientNetV2, ICML 2021, section 4).
"""

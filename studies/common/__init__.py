"""What studies share: settings, images and roles, how a model is looked at, how it is measured, how a study runs."""

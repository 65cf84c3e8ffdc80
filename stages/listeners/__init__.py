"""What stages that listen to clips share: models from the hub, and batches across videos."""

"""MLflow's own store classes, made aware of who is asking. Import only after `loading.load_mlflow`."""

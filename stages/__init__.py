"""The stages of the build, one room each; dvc.yaml tells their order. Stages share `common` and the runtime only."""

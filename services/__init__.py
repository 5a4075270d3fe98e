"""The services, one package each; they meet in topics and import only `solyx`."""

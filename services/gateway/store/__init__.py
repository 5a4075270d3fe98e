"""All of the gateway's SQL; returns `model` values, never rows."""

"""Topics in and out: windows by faust-streaming, forecasts by the shard runner, and the board that HTTP reads."""

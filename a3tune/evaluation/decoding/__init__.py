"""Ways of decoding beside tuning: each changes the next token's scores, or the attention behind them."""

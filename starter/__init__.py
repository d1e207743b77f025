"""How the heads of `starter` are trained; nothing here is installed."""

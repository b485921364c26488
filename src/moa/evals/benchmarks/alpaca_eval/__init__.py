"""AlpacaEval 2.0: its judge, its win rates, and the length-controlled one."""

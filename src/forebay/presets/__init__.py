"""What each kind of client needs: pure rewriting and key rules."""

"""Training that can be cut anywhere and goes on exactly; the loop knows no method."""

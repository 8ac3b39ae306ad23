"""Webhook endpoints: where events are delivered to, and what came of each delivery."""

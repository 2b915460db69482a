"""The double pendulum's published benchmarks (RealAIGym), scored with an exported file or any Python policy."""

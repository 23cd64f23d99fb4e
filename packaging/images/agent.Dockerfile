# The agent from its package. `cargo xtask images` lays out what this file expects; docs/containers.md says how it is run, and
# what it means that Docker's socket is inside.
# A small Debian with what base-packages.txt names.
ARG BASE
FROM ${BASE}
COPY package.deb /tmp/package.deb
RUN dpkg-deb --extract /tmp/package.deb / && rm /tmp/package.deb \
    && useradd --system --uid 10002 --user-group --no-create-home --home-dir /var/lib/longshore-agent longshore-agent \
    && install --directory --owner 10002 --group 10002 --mode 700 /var/lib/longshore-agent
USER 10002:10002
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin
# No VOLUME: its state has to be a directory of the host at the same path, which `docker run` must name.
HEALTHCHECK --interval=30s --timeout=10s --start-period=1m CMD ["/usr/bin/longshore-agent", "status", "--config", "/etc/longshore/agent.toml"]
ENTRYPOINT ["/usr/bin/longshore-agent"]
CMD ["run", "--config", "/etc/longshore/agent.toml"]

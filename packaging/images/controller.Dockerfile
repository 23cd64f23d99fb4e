# The controller from its package. `cargo xtask images` lays out what this file expects; docs/containers.md says how it is run.
# A small Debian with what base-packages.txt names.
ARG BASE
FROM ${BASE}
COPY package.deb /tmp/package.deb
# Extracted and not installed: services, users and directories of a system are not a container's.
RUN dpkg-deb --extract /tmp/package.deb / && rm /tmp/package.deb \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/longshore-controller longshore-controller \
    && install --directory --owner 10001 --group 10001 --mode 700 /var/lib/longshore-controller
COPY health /usr/libexec/longshore-controller/health
USER 10001:10001
# All interfaces: the container's own network is what closes it to others.
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin LONGSHORE_CONTROLLER__API__LISTEN=0.0.0.0:8440
VOLUME /var/lib/longshore-controller
EXPOSE 8440 8441
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m CMD ["/usr/libexec/longshore-controller/health"]
ENTRYPOINT ["/usr/bin/longshore-controller"]
CMD ["serve", "--config", "/etc/longshore/controller.toml"]

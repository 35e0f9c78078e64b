# rie: the manager, and the bundle to take for images of one's own: COPY --from=rie /opt/rie /opt/rie
# `make image-rie` builds it; SITE and BUNDLE name what it put into build/.
FROM rie/base:python
ARG SITE
ARG BUNDLE
COPY ${SITE} /usr/local/lib/python3.11/dist-packages
COPY rie /usr/local/lib/python3.11/dist-packages/rie
COPY bootstrap /usr/local/lib/python3.11/dist-packages/bootstrap
COPY ${BUNDLE} /opt/rie
COPY images/rie/rie /usr/local/bin/rie
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /usr/local/lib/python3.11/dist-packages
EXPOSE 9000
VOLUME /var/lib/rie
ENTRYPOINT ["rie"]
# Others reach it, so it asks who they are: with RIE_ACCESS_KEY_ID and RIE_SECRET_ACCESS_KEY, or the key that it makes
# and keeps in /var/lib/rie/keys.json. `serve --host 0.0.0.0 --insecure-no-auth` asks nobody.
CMD ["serve", "--host", "0.0.0.0", "--port", "9000", "--data", "/var/lib/rie", "--auth"]

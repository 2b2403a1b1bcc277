/* api_versions.c - ApiVersions: the table of api.def, told to clients.
 *
 * A version we do not serve is answered in version 0 with error 35 and the range of this one API
 * (KIP-511), which is what every client's fall-back expects. Features: what this build supports
 * (lib/meta/features.def), and the levels that the metadata image has. */
#include "dataplane/kafka/handlers.h"

static bool alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])? */
static bool software_text_is_valid(struct span s)
{
    if (s.len == 0 || !alnum(s.p[0]) || !alnum(s.p[s.len - 1]))
        return false;
    for (uint32_t i = 0; i < s.len; i++)
        if (!alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '.')
            return false;
    return true;
}

static struct api_versions_response_api advertised(const struct api *a)
{
    const struct wire_api *w = wire_api_find(a->key);
    struct api_versions_response_api out;
    api_versions_response_api_init(&out);
    out.api_key = a->key;
    out.min_version = w != NULL && w->advertised_min < a->min ? w->advertised_min : a->min;
    out.max_version = a->max;
    return out;
}

static void features_add(struct api_versions_response *resp, const struct meta_feature_range *f,
                         int16_t level, int16_t version)
{
    if (f->min > 0 || version >= 4) { /* older clients fail on a lowest level of 0 (KAFKA-17492) */
        struct api_versions_response_supported_feature *s =
            &resp->supported_features.v[resp->supported_features.cnt++];
        api_versions_response_supported_feature_init(s);
        s->name = span_str(f->name);
        s->min_version = f->min;
        s->max_version = f->max;
    }
    if (level > 0) {
        struct api_versions_response_finalized_feature *o =
            &resp->finalized_features.v[resp->finalized_features.cnt++];
        api_versions_response_finalized_feature_init(o);
        o->name = span_str(f->name);
        o->min_version_level = o->max_version_level = level;
    }
}

static void respond_unsupported(struct kreq *req)
{
    struct api_versions_response resp;
    api_versions_response_init(&resp);
    struct api_versions_response_api self = advertised(req->api);
    resp.error_code = (int16_t)err_kafka_code(-E_UNSUPPORTED_VERSION);
    resp.api_keys.v = &self;
    resp.api_keys.cnt = 1;
    req->hdr.api_version = 0;
    KREQ_RESPOND(req, api_versions_response, &resp);
}

int api_versions_start(struct kreq *req, struct wire_reader *r)
{
    if (req->unserved_version) {
        respond_unsupported(req);
        return 0;
    }
    struct api_versions_request in;
    int rc = api_versions_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    struct api_versions_response resp;
    api_versions_response_init(&resp);
    if (kreq_version(req) >= 3 && (!software_text_is_valid(in.client_software_name) ||
                                   !software_text_is_valid(in.client_software_version))) {
        resp.error_code = 42; /* INVALID_REQUEST; the client retries with version 0 */
        KREQ_RESPOND(req, api_versions_response, &resp);
        return 0;
    }
    uint32_t cnt = 0;
    while (api_at(cnt) != NULL)
        cnt++;
    resp.api_keys.v = arena_array(&req->arena, cnt, sizeof(*resp.api_keys.v));
    if (resp.api_keys.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt; i++)
        resp.api_keys.v[i] = advertised(api_at(i));
    resp.api_keys.cnt = cnt;

    const struct meta_image *img = req->k->s->image;
    resp.supported_features.v =
        arena_array(&req->arena, meta_feature_cnt, sizeof(*resp.supported_features.v));
    resp.finalized_features.v =
        arena_array(&req->arena, meta_feature_cnt, sizeof(*resp.finalized_features.v));
    if (resp.supported_features.v == NULL || resp.finalized_features.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; img != NULL && i < meta_feature_cnt; i++)
        features_add(&resp, &meta_features[i], image_feature(img, meta_features[i].name),
                     kreq_version(req));
    if (img != NULL && img->offset >= 0)
        resp.finalized_features_epoch = img->offset;
    KREQ_RESPOND(req, api_versions_response, &resp);
    return 0;
}

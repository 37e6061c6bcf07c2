// SPDX-License-Identifier: Apache-2.0
#include "tls/client.hpp"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/address.hpp"

namespace mesh::tls {
namespace {

/// Length-prefixed protocol names, as ALPN wants them.
constexpr std::string_view kHttp1Protocols("\x08http/1.1");
constexpr std::string_view kHttp2Protocols("\x02h2");

}  // namespace

base::Result<std::shared_ptr<const ClientContext>> ClientContext::make(const Options& options) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  MESH_ASSERT(context != nullptr);
  std::shared_ptr<const ClientContext> made(new ClientContext(context, options.verify));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  const std::string_view protocols = options.alpn == Alpn::kHttp2 ? kHttp2Protocols : kHttp1Protocols;
  SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned>(protocols.size()));
  if (options.ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else if (SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr) != 1) {
    return base::fail(base::ErrorKind::kInvalid,
                      "load CA certificates from " + options.ca_file + ": " + library_error(),
                      "name a readable PEM file with at least one certificate");
  }
  return made;
}

ClientContext::~ClientContext() { SSL_CTX_free(context_); }

ClientSession::ClientSession(std::shared_ptr<const ClientContext> context, const std::string& server_name)
    : Session(SSL_new(context->context_)), context_(std::move(context)) {
  SSL_set_connect_state(ssl());
  if (base::IpAddress::parse(server_name)) {
    if (context_->verify_) X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl()), server_name.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl(), server_name.c_str());
    if (context_->verify_) {
      SSL_set_hostflags(ssl(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
      SSL_set1_host(ssl(), server_name.c_str());
    }
  }
  handshake();
}

}  // namespace mesh::tls

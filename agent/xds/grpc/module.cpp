// SPDX-License-Identifier: Apache-2.0
// xds.so: see library.hpp.
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <cstdlib>
#include <cstring>

#include "xds/grpc/client.hpp"
#include "xds/grpc/codec.hpp"
#include "xds/grpc/server.hpp"

namespace mesh::xds {
namespace {

class GrpcLibrary final : public Library {
 public:
  GrpcLibrary() {
    // Troubles of connections are errors of their streams; gRPC's own lines would only repeat them in another format.
    if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
    google::protobuf::SetLogHandler(nullptr);  // what is no message is an error, or a refusal
  }
  [[nodiscard]] std::unique_ptr<Stream> open(const StreamOptions& options) const override {
    return open_stream(options);
  }
  [[nodiscard]] base::Result<std::unique_ptr<Server>> serve(ServerOptions options) const override {
    return open_server(std::move(options));
  }
  [[nodiscard]] base::Result<Answer> decode(std::string_view bytes) const override {
    envoy::service::discovery::v3::DiscoveryResponse response;
    if (bytes.size() > kMaxMessageBytes || !response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return base::fail(base::ErrorKind::kInvalid, "read an answer of xDS: it is no DiscoveryResponse");
    }
    return from_message(response);
  }
};

}  // namespace
}  // namespace mesh::xds

extern "C" __attribute__((visibility("default"))) const mesh::xds::Library* meshd_xds_library(const char* version) {
  static const auto* const library = new mesh::xds::GrpcLibrary;
  return std::strcmp(version, MESH_VERSION) == 0 ? library : nullptr;
}

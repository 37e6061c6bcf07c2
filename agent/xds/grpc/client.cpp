// SPDX-License-Identifier: Apache-2.0
#include "xds/grpc/client.hpp"

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "xds/grpc/codec.hpp"
#include "xds/proto/discovery.grpc.pb.h"

namespace mesh::xds {
namespace {

using envoy::service::discovery::v3::AggregatedDiscoveryService;
using envoy::service::discovery::v3::DiscoveryRequest;
using envoy::service::discovery::v3::DiscoveryResponse;
using std::chrono::milliseconds;

constexpr int kPingTimeout = 20'000;       // milliseconds
constexpr milliseconds kStatusWait{1000};  // for the status of a stream that says nothing more

std::shared_ptr<grpc::ChannelCredentials> credentials(const StreamOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  if (options.verify) {
    return grpc::SslCredentials({options.pems.ca, options.pems.key, options.pems.certificate});
  }
  namespace tls = grpc::experimental;
  tls::TlsChannelCredentialsOptions unverified;
  unverified.set_verify_server_certs(false);
  unverified.set_check_call_host(false);
  unverified.set_certificate_verifier(std::make_shared<tls::NoOpCertificateVerifier>());
  if (!options.pems.certificate.empty()) {
    unverified.set_certificate_provider(std::make_shared<tls::StaticDataCertificateProvider>(
        std::vector<tls::IdentityKeyCertPair>{{options.pems.key, options.pems.certificate}}));
    unverified.watch_identity_key_cert_pairs();
  }
  return tls::TlsCredentials(unverified);
}

std::shared_ptr<grpc::Channel> make_channel(const StreamOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(options.connect_timeout.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(options.keepalive.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeout);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  if (!options.server_name.empty()) arguments.SetSslTargetNameOverride(options.server_name);
  const std::string target = options.server.starts_with("unix:") ? options.server : "dns:///" + options.server;
  return grpc::CreateCustomChannel(target, credentials(options), arguments);
}

base::Error stream_error(const grpc::Status& status, const std::string& server) {
  base::ErrorKind kind = base::ErrorKind::kUnavailable;
  std::string remedy;
  switch (status.error_code()) {
    case grpc::UNAUTHENTICATED:
    case grpc::PERMISSION_DENIED:
      kind = base::ErrorKind::kPermission;
      remedy = "see token_file, tls and node_id";
      break;
    case grpc::RESOURCE_EXHAUSTED:
      kind = base::ErrorKind::kExhausted;
      break;
    case grpc::DEADLINE_EXCEEDED:
      kind = base::ErrorKind::kTimeout;
      break;
    case grpc::UNIMPLEMENTED:
      kind = base::ErrorKind::kUnsupported;
      remedy = "the server has no aggregated discovery";
      break;
    default:
      break;
  }
  std::string why = status.ok() ? "the server ended the stream" : status.error_message();
  if (!status.ok()) why += " (gRPC status " + std::to_string(status.error_code()) + ")";
  return {kind, "stream of " + server + ": " + why, remedy};
}

/// gRPC calls the reactor from threads of its own. One answer is read ahead, no more.
class Reactor final : public grpc::ClientBidiReactor<DiscoveryRequest, DiscoveryResponse> {
 public:
  explicit Reactor(const StreamOptions& options)
      : channel_(make_channel(options)),
        stub_(AggregatedDiscoveryService::NewStub(channel_)),
        event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    MESH_ASSERT(event_.valid());
    if (!options.token.empty()) context_.AddMetadata("authorization", "Bearer " + options.token);
    stub_->async()->StreamAggregatedResources(&context_, this);
    AddHold();  // for writes that begin outside of the reactor's own calls
    StartRead(&response_);
    StartCall();
  }

  void send(const Request& request) {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    requests_.push_back(to_message(request));
    if (requests_.size() == 1) StartWrite(&requests_.front());
  }

  /// What was read; the next read begins.
  std::optional<Answer> take() {
    const std::lock_guard lock(mutex_);
    if (!read_) return std::nullopt;
    Answer answer = from_message(response_);
    read_ = false;
    response_.Clear();
    if (!ended_) StartRead(&response_);
    return answer;
  }

  [[nodiscard]] std::optional<grpc::Status> status() {
    const std::lock_guard lock(mutex_);
    return done_;
  }
  /// Nothing more can be read, since then: the stream has ended, or what came was no answer.
  [[nodiscard]] std::optional<base::TimePoint> unreadable_since() {
    const std::lock_guard lock(mutex_);
    return unreadable_since_;
  }
  [[nodiscard]] int fd() const { return event_.get(); }
  void clear_event() const {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof(count));
  }

  void end() {
    context_.TryCancel();
    release_hold();
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return done_.has_value(); });
  }

 private:
  void OnReadDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      read_ = ok;
      if (!ok) unreadable_since_ = base::steady_now();
    }
    if (!ok) release_hold();
    wake();
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    requests_.pop_front();
    if (!ok) requests_.clear();
    if (!requests_.empty() && !ended_) StartWrite(&requests_.front());
  }
  void OnDone(const grpc::Status& status) override {
    wake();
    const std::lock_guard lock(mutex_);
    done_ = status;
    finished_.notify_all();  // under the lock: whoever waits for it may destroy this next
  }
  void release_hold() {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(ended_, true)) return;
    }
    RemoveHold();
  }
  void wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<AggregatedDiscoveryService::Stub> stub_;
  grpc::ClientContext context_;
  base::Fd event_;
  DiscoveryResponse response_;
  std::mutex mutex_;  ///< Guards all below, and response_ while read_.
  std::condition_variable finished_;
  std::deque<DiscoveryRequest> requests_;  ///< The first is being written.
  bool read_ = false;
  std::optional<base::TimePoint> unreadable_since_;
  bool ended_ = false;  ///< No call begins any more.
  std::optional<grpc::Status> done_;
};

class GrpcStream final : public Stream {
 public:
  explicit GrpcStream(const StreamOptions& options) : server_(options.server), reactor_(options) {}
  ~GrpcStream() override { reactor_.end(); }

  void send(const Request& request) override { reactor_.send(request); }

  base::Result<std::optional<Answer>> receive(milliseconds timeout, int wake_fd) override {
    base::TimePoint until = base::steady_now() + timeout;
    while (true) {
      if (auto answer = reactor_.take()) return answer;
      if (const auto status = reactor_.status()) return std::unexpected(stream_error(*status, server_));
      if (const auto since = reactor_.unreadable_since()) {
        if (base::steady_now() >= *since + kStatusWait) {
          return base::fail(base::ErrorKind::kInvalid,
                            "stream of " + server_ + ": it said what is no DiscoveryResponse");
        }
        until = *since + kStatusWait;
      }
      const auto left = std::chrono::ceil<milliseconds>(until - base::steady_now());
      if (left.count() <= 0) return std::nullopt;
      pollfd fds[] = {{reactor_.fd(), POLLIN, 0}, {wake_fd, POLLIN, 0}};
      ::poll(fds, 2, static_cast<int>(left.count()));
      if (fds[1].revents != 0) return std::nullopt;
      reactor_.clear_event();
    }
  }

 private:
  const std::string server_;
  Reactor reactor_;
};

}  // namespace

std::unique_ptr<Stream> open_stream(const StreamOptions& options) { return std::make_unique<GrpcStream>(options); }

}  // namespace mesh::xds

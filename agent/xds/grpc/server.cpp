// SPDX-License-Identifier: Apache-2.0
#include "xds/grpc/server.hpp"

#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <condition_variable>
#include <mutex>
#include <set>

#include "xds/grpc/codec.hpp"
#include "xds/proto/discovery.grpc.pb.h"
#include "xds/session.hpp"

namespace mesh::xds {
namespace {

using envoy::service::discovery::v3::AggregatedDiscoveryService;
using envoy::service::discovery::v3::DiscoveryRequest;
using envoy::service::discovery::v3::DiscoveryResponse;
using namespace std::chrono_literals;

class Client;

/// What the streams share. gRPC calls no reactor from within a call of its own, so calls are made under the mutex.
struct Shared {
  ServerOptions options;
  std::mutex mutex;  ///< Guards all below, and the clients.
  std::condition_variable left;
  WorldPtr world;
  std::set<Client*> clients;
  ServerStats stats;
};

/// One stream: one read and one write at a time. What changes while an answer is being written is said after it, once.
class Client final : public grpc::ServerBidiReactor<DiscoveryRequest, DiscoveryResponse> {
 public:
  Client(std::shared_ptr<Shared> shared, grpc::CallbackServerContext* context)
      : shared_(std::move(shared)), context_(context) {
    const std::lock_guard lock(shared_->mutex);
    ++shared_->stats.streams;
    const bool too_many = shared_->clients.size() >= kMaxClients;
    shared_->clients.insert(this);
    if (too_many) {
      ++shared_->stats.dropped;
      end({grpc::RESOURCE_EXHAUSTED, "more than " + std::to_string(kMaxClients) + " clients"});
    } else {
      StartRead(&request_);
    }
  }

  /// Under the mutex, as the next.
  void tell() {
    if (writing_since_ || ended_ || !shared_->world) return;
    const auto reply = session_.next(*shared_->world);
    if (!reply) return;
    ++shared_->stats.answers;
    writing_since_ = base::steady_now();
    response_ = to_message(*reply);
    StartWrite(&response_);
  }
  void tend(base::TimePoint now) {
    if (!writing_since_ || now - *writing_since_ < kMaxWrite || std::exchange(too_slow_, true)) return;
    ++shared_->stats.dropped;
    context_->TryCancel();
  }

 private:
  void OnReadDone(bool ok) override {
    const std::lock_guard lock(shared_->mutex);
    if (!ok || ended_) return end(grpc::Status::OK);
    if (const auto request = from_message(request_)) {
      switch (session_.take(*request)) {
        case Session::Taken::kAccepted:
          ++shared_->stats.accepted;
          break;
        case Session::Taken::kRefused:
          ++shared_->stats.refused;
          break;
        case Session::Taken::kAsked:
          break;
        case Session::Taken::kTooMuch:
          ++shared_->stats.dropped;
          return end({grpc::RESOURCE_EXHAUSTED, "more than " + std::to_string(kMaxNames) + " names"});
      }
      if (const auto refusal = session_.take_refusal(); refusal && shared_->options.on_refusal) {
        shared_->options.on_refusal({session_.node().id, refusal->type, refusal->version, refusal->why});
      }
    }
    tell();
    StartRead(&request_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(shared_->mutex);
    writing_since_.reset();
    if (ok) tell();
  }
  void OnCancel() override {
    const std::lock_guard lock(shared_->mutex);
    end(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->clients.erase(this);
      shared_->left.notify_all();
    }
    delete this;
  }
  void end(const grpc::Status& status) {
    if (!std::exchange(ended_, true)) Finish(status);
  }

  const std::shared_ptr<Shared> shared_;
  grpc::CallbackServerContext* const context_;
  DiscoveryRequest request_;
  DiscoveryResponse response_;
  Session session_;
  std::optional<base::TimePoint> writing_since_;
  bool too_slow_ = false;
  bool ended_ = false;
};

class Service final : public AggregatedDiscoveryService::CallbackService {
 public:
  explicit Service(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  grpc::ServerBidiReactor<DiscoveryRequest, DiscoveryResponse>* StreamAggregatedResources(
      grpc::CallbackServerContext* context) override {
    return new Client(shared_, context);
  }

 private:
  const std::shared_ptr<Shared> shared_;
};

class GrpcServer final : public Server {
 public:
  explicit GrpcServer(ServerOptions options) : shared_(std::make_shared<Shared>()), service_(shared_) {
    shared_->options = std::move(options);
  }
  ~GrpcServer() override {
    if (server_) server_->Shutdown(base::wall_now() + 100ms);
    std::unique_lock lock(shared_->mutex);
    shared_->left.wait(lock, [this] { return shared_->clients.empty(); });
  }

  base::Result<void> listen() {
    const std::string& address = shared_->options.listen;
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (!server_ || port == 0) {
      return base::fail(base::ErrorKind::kConflict, "listen at " + address + ": it can't be bound",
                        "see whether somebody else listens there; agent.xds.listen names another");
    }
    const std::string path = address.starts_with("unix:") ? address.substr(5) : "";
    if (!path.empty() && ::chmod(path.c_str(), 0666) != 0) return base::fail_errno(errno, "chmod " + path);
    return {};
  }

  void set_world(WorldPtr world) override {
    const std::lock_guard lock(shared_->mutex);
    shared_->world = std::move(world);
    for (Client* const client : shared_->clients) client->tell();
  }
  void tend(base::TimePoint now) override {
    const std::lock_guard lock(shared_->mutex);
    for (Client* const client : shared_->clients) client->tend(now);
  }
  [[nodiscard]] ServerStats stats() const override {
    const std::lock_guard lock(shared_->mutex);
    ServerStats stats = shared_->stats;
    stats.clients = shared_->clients.size();
    return stats;
  }

 private:
  const std::shared_ptr<Shared> shared_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

base::Result<std::unique_ptr<Server>> open_server(ServerOptions options) {
  auto server = std::make_unique<GrpcServer>(std::move(options));
  MESH_CHECK(server->listen());
  return server;
}

}  // namespace mesh::xds

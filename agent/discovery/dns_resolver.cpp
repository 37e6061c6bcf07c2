// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns_resolver.hpp"

#include <ares.h>
#include <fmt/format.h>
#include <sys/time.h>

#include <array>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>

namespace mesh::discovery {
namespace {

constexpr int kEdnsBytes = 1232;  ///< What passes any network in one piece.
constexpr int kClassIn = 1;

base::Error error_of(int status, const DnsQuestion& question) {
  const bool timeout = status == ARES_ETIMEOUT;
  return {timeout ? base::ErrorKind::kTimeout : base::ErrorKind::kUnavailable,
          fmt::format("ask for {} {}: {}", question.name, to_string(question.type), ares_strerror(status)),
          "what was known stays in use", 0};
}

class AresResolver final : public DnsResolver {
 public:
  explicit AresResolver(Done done) : done_(std::move(done)) {}
  ~AresResolver() override {
    if (channel_ != nullptr) ares_destroy(channel_);
    for (Query* query : queries_) delete query;
  }

  base::Result<void> open(const Options& options) {
    static std::once_flag once;
    std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
    ares_options ares{};
    std::string none = "/dev/null";  // resolvers are set below; search domains, ndots and the like don't hold
    std::string lookups = "b";
    ares.flags = ARES_FLAG_EDNS | ARES_FLAG_NOALIASES | ARES_FLAG_NOSEARCH;
    ares.timeout = static_cast<int>(options.timeout.count());
    ares.tries = static_cast<int>(options.tries);
    ares.ednspsz = kEdnsBytes;
    ares.resolvconf_path = none.data();
    ares.lookups = lookups.data();
    const int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_RESOLVCONF |
                     ARES_OPT_LOOKUPS;
    if (const int status = ares_init_options(&channel_, &ares, mask); status != ARES_SUCCESS) {
      channel_ = nullptr;
      return fail(status);
    }
    std::string servers;
    for (const base::SocketAddress& server : options.servers) {
      servers += (servers.empty() ? "" : ",") + server.to_string();
    }
    if (const int status = ares_set_servers_ports_csv(channel_, servers.c_str()); status != ARES_SUCCESS) {
      return fail(status);
    }
    return {};
  }

  void ask(const DnsQuestion& question) override {
    auto* const query = new Query{*this, question};
    queries_.insert(query);
    ares_query(channel_, question.name.c_str(), kClassIn, static_cast<int>(question.type), &AresResolver::on_answer,
               query);
  }

  [[nodiscard]] std::vector<pollfd> waits() const override {
    std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets{};
    const auto bits = static_cast<unsigned>(ares_getsock(channel_, sockets.data(), ARES_GETSOCK_MAXNUM));
    std::vector<pollfd> waits;
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM; ++i) {
      short events = 0;
      if ((bits >> i & 1) != 0) events |= POLLIN;
      if ((bits >> (i + ARES_GETSOCK_MAXNUM) & 1) != 0) events |= POLLOUT;
      if (events != 0) waits.push_back({sockets[i], events, 0});
    }
    return waits;
  }

  [[nodiscard]] std::chrono::milliseconds patience(std::chrono::milliseconds at_most) const override {
    timeval longest{at_most.count() / 1000, (at_most.count() % 1000) * 1000};
    timeval left{};
    const timeval* const got = ares_timeout(channel_, &longest, &left);
    return std::chrono::milliseconds(got->tv_sec * 1000 + (got->tv_usec + 999) / 1000);
  }

  void drive(const std::vector<pollfd>& waits) override {
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // what time is over
    for (const pollfd& wait : waits) {
      const bool in = (wait.revents & (POLLIN | POLLERR | POLLHUP)) != 0;
      const bool out = (wait.revents & POLLOUT) != 0;
      if (in || out) ares_process_fd(channel_, in ? wait.fd : ARES_SOCKET_BAD, out ? wait.fd : ARES_SOCKET_BAD);
    }
  }

  [[nodiscard]] std::size_t in_flight() const override { return queries_.size(); }

 private:
  struct Query {
    AresResolver& resolver;
    DnsQuestion question;
  };

  static base::Result<void> fail(int status) {
    return base::fail(base::ErrorKind::kSystem, fmt::format("prepare for DNS: {}", ares_strerror(status)));
  }

  static void on_answer(void* argument, int status, int, unsigned char* bytes, int size) {
    auto* const query = static_cast<Query*>(argument);
    AresResolver& resolver = query->resolver;
    const DnsQuestion question = std::move(query->question);
    resolver.queries_.erase(query);
    delete query;
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) return;  // nobody waits for it any more
    const bool answered = status == ARES_SUCCESS || status == ARES_ENOTFOUND || status == ARES_ENODATA;
    if (answered && bytes != nullptr) {
      resolver.done_(question, parse_dns_answer({bytes, static_cast<std::size_t>(size)}, question));
    } else {
      resolver.done_(question, std::unexpected(error_of(status, question)));
    }
  }

  const Done done_;
  ares_channel channel_ = nullptr;
  std::unordered_set<Query*> queries_;  ///< In flight; c-ares has their addresses.
};

}  // namespace

base::Result<std::unique_ptr<DnsResolver>> DnsResolver::make(const Options& options, Done done) {
  auto resolver = std::make_unique<AresResolver>(std::move(done));
  MESH_CHECK(resolver->open(options));
  return resolver;
}

}  // namespace mesh::discovery

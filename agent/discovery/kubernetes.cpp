// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "discovery/kubernetes_model.hpp"
#include "discovery/kubernetes_watch.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;
using namespace kubernetes;
using base::ErrorKind;
using base::TimePoint;
using std::chrono::milliseconds;

namespace {

constexpr base::log::Logger kLog{"kubernetes"};
constexpr milliseconds kCheckDeadline = 10s;  // of asking whether the server is there
constexpr milliseconds kListDeadline = 60s;   // of one page
constexpr milliseconds kWatchMargin = 30s;    // a watch that is open so much longer than agreed is dead
constexpr milliseconds kRecheck = 5s;         // after it was not
constexpr unsigned kMaxChecks = 3;            // failed in a row; then everything begins anew
constexpr milliseconds kLongest = 1h;
/// kube-proxy asks for no others either.
constexpr std::string_view kNotForeign = "!service.kubernetes.io/service-proxy-name";
constexpr std::string_view kNotHeadless = "!service.kubernetes.io/headless";

enum class Resource : std::uint8_t { kServices, kSlices };

/// One list and watch, and its request.
struct Stream {
  Resource resource;
  std::string space;  // empty: all
  ListWatch steps;
  std::optional<http::Fetcher::Id> request{};
  TimePoint not_before{};
  Framer framer{};
  std::optional<Event> failed{};         // an event kError, which ended the watch
  std::optional<base::Error> trouble{};  // reported, and not over
};

std::string both(std::string_view a, std::string_view b) {
  return a.empty() || b.empty() ? std::string(a) + std::string(b) : std::string(a) + "," + std::string(b);
}

class Session {
 public:
  Session(Feed& feed, const KubernetesSettings& settings, const Access& access, ImportRules rules, base::Random& random)
      : feed_(feed),
        settings_(settings),
        server_(access.server),
        cluster_(std::move(rules)),
        random_(random),
        fetcher_(access.fetch) {
    const std::string filter = both(kNotForeign, settings.headless ? "" : kNotHeadless);
    std::vector<std::string> spaces = settings.namespaces;
    if (spaces.empty()) spaces.emplace_back();
    for (const std::string& space : spaces) {
      const std::string in = space.empty() ? "" : "/namespaces/" + space;
      streams_.push_back({.resource = Resource::kServices,
                          .space = space,
                          .steps = {"/api/v1" + in + "/services", both(settings.selector, filter)}});
      streams_.push_back({.resource = Resource::kSlices,
                          .space = space,
                          .steps = {"/apis/discovery.k8s.io/v1" + in + "/endpointslices", filter}});
    }
  }

  base::Result<void> run() {
    heard();
    while (!feed_.stopping()) {
      const TimePoint now = base::steady_now();
      for (Stream& stream : streams_) {
        if (!stream.request && now >= stream.not_before) MESH_CHECK(ask(stream));
      }
      MESH_CHECK(check_if_due(now));
      for (auto& [id, result] : fetcher_.run(wait_time(now), feed_.wake_fd())) {
        if (feed_.stopping()) return {};
        if (id == check_) {
          MESH_CHECK(end_check(std::move(result)));
          continue;
        }
        Stream* const stream = stream_of(id);
        if (stream != nullptr) MESH_CHECK(end(*stream, std::move(result)));
      }
      publish_if_due(base::steady_now());
    }
    return {};
  }

 private:
  Stream* stream_of(http::Fetcher::Id id) {
    const auto found = std::ranges::find(streams_, std::optional(id), &Stream::request);
    return found == streams_.end() ? nullptr : &*found;
  }

  base::Result<void> ask(Stream& stream) {
    const unsigned seconds =
        kWatchMinSeconds + static_cast<unsigned>(random_.below(kWatchMaxSeconds - kWatchMinSeconds + 1));
    http::FetchRequest request{.url = server_ + stream.steps.target(seconds),
                               .headers = {{"Accept", "application/json"}},
                               .deadline = kListDeadline};
    if (stream.steps.watching()) {
      stream.framer = {};
      stream.failed.reset();
      request.deadline = std::chrono::seconds(seconds) + kWatchMargin;
      request.no_progress = 0ms;  // the check sees whether the server is there
      request.body_limit = 0;     // a frame has a limit
      request.on_start = [this, &stream](const http::Headers&) {
        stream.trouble.reset();
        stream.steps.on_watch_start(base::steady_now());
        heard();
      };
      request.on_body = [this, &stream](std::string_view piece) {
        heard();
        return stream.framer.feed(piece, [&](std::string_view frame) { return take_event(stream, frame); });
      };
    } else if (stream.steps.at_first_page()) {
      stream.resource == Resource::kServices ? cluster_.begin_services(stream.space)
                                             : cluster_.begin_slices(stream.space);
    }
    stream.request = MESH_TRY(fetcher_.begin(std::move(request)));
    return {};
  }

  base::Result<void> take_event(Stream& stream, std::string_view frame) {
    Event event = MESH_TRY(read_event(frame));
    if (event.type == EventType::kError) {
      stream.failed = std::move(event);
      return base::fail(ErrorKind::kUnavailable, "the watch failed");  // ends the request; end() looks at `failed`
    }
    stream.steps.on_event(event, base::steady_now());
    if (event.type == EventType::kBookmark || event.type == EventType::kUnknown) {
      return {};
    }
    apply(stream, event.type == EventType::kDeleted, std::move(event.object));
    return {};
  }

  void apply(const Stream& stream, bool deleted, Object object) {
    if (object.meta.name.empty()) return;
    changed_ = true;
    if (stream.resource == Resource::kServices) {
      deleted ? cluster_.remove_service(object.meta.key()) : cluster_.put(std::move(object.service));
    } else {
      deleted ? cluster_.remove_slice(object.meta.key()) : cluster_.put(std::move(object.slice));
    }
  }

  base::Result<void> end(Stream& stream, base::Result<http::FetchResponse> result) {
    stream.request.reset();
    const TimePoint now = base::steady_now();
    const std::string what =
        (stream.steps.watching() ? "watch " : "list ") + http::public_url(server_ + stream.steps.target(0));
    ListWatch::Next next;
    std::optional<std::chrono::seconds> retry_after;
    if (stream.failed) {
      const Status& status = stream.failed->object.status;
      const http::FetchResponse as_answer{.status = static_cast<unsigned>(status.code), .body = status.message};
      next = stream.steps.on_status(status, std::nullopt, http::status_error(as_answer, what), now, random_);
      stream.failed.reset();
    } else if (!result) {
      next = stream.steps.on_error(std::move(result).error(), now, random_);
    } else if (!result->ok()) {
      Status status = read_status(result->body);
      status.code = static_cast<int>(result->status);
      retry_after = result->retry_after;
      if (status.retry_after > 0s) retry_after = std::max(retry_after.value_or(0s), status.retry_after);
      next = stream.steps.on_status(status, retry_after, http::status_error(*result, what), now, random_);
    } else if (stream.steps.watching()) {
      next = stream.steps.on_watch_end(now, random_);
    } else {
      MESH_CHECK(take_page(stream, result->body));
    }
    if (!next.wait) {
      if (retry_after) feed_.leave_alone_for(*retry_after);
      return std::unexpected(std::move(*next.error));
    }
    if (next.error) {
      feed_.report(*next.error);
      stream.trouble = std::move(next.error);
    }
    stream.not_before = now + *next.wait;
    return {};
  }

  base::Result<void> take_page(Stream& stream, std::string_view body) {
    const ListMeta page = MESH_TRY(read_list(body, [&](Object&& object) { apply(stream, false, std::move(object)); }));
    heard();
    if (!stream.steps.on_page(page)) return {};
    stream.resource == Resource::kServices ? cluster_.end_services(stream.space) : cluster_.end_slices(stream.space);
    changed_ = true;
    return {};
  }

  // A watch is silent for minutes where nothing happens, and where the server hangs: asking tells the two apart.
  base::Result<void> check_if_due(TimePoint now) {
    if (check_ || now < check_at_) return {};
    const milliseconds deadline = std::min<milliseconds>(settings_.check_interval, kCheckDeadline);
    check_ = MESH_TRY(fetcher_.begin({.url = server_ + "/version", .deadline = deadline}));
    return {};
  }

  base::Result<void> end_check(base::Result<http::FetchResponse> result) {
    check_.reset();
    // 403: it is there, it knows us, and does not tell its version.
    if (result && (result->ok() || result->status == 403)) {
      check_trouble_.reset();
      failed_checks_ = 0;
      heard();
      return {};
    }
    base::Error error = result ? http::status_error(*result, "GET " + server_ + "/version") : result.error();
    if (++failed_checks_ >= kMaxChecks || error.kind == ErrorKind::kPermission) {
      return std::unexpected(std::move(error));
    }
    feed_.report(error);
    check_trouble_ = std::move(error);
    check_at_ = base::steady_now() + std::min<milliseconds>(settings_.check_interval, kRecheck);
    return {};
  }

  /// The server spoke.
  void heard() {
    check_at_ = base::steady_now() + settings_.check_interval;
    confirm_due_ = true;
  }

  [[nodiscard]] bool all_listed() const {
    return std::ranges::all_of(streams_, [](const Stream& stream) { return stream.steps.listed(); });
  }
  /// Why what is known may not be what there is; null: it is.
  [[nodiscard]] const base::Error* trouble() const {
    for (const Stream& stream : streams_) {
      if (stream.trouble) return &*stream.trouble;
    }
    return check_trouble_ ? &*check_trouble_ : nullptr;
  }

  void publish_if_due(TimePoint now) {
    if (!all_listed()) return;
    if (changed_ && now >= pace_.due()) {
      changed_ = false;
      pace_.begin();
      const bool differs = cluster_.update();
      for (const std::string& problem : cluster_.take_problems()) {
        kLog.warn("object not understood as it is written", {{"err", problem}});
      }
      if (differs || !published_) {
        auto exchanged = published_ ? cluster_.take_exchanged() : std::vector<model::ServicePtr>{};
        exchanged.empty() ? feed_.publish(cluster_.services()) : feed_.exchange(std::move(exchanged));
        published_ = true;
        pace_.end();
        confirm_due_ = false;
        // What one stream said is published while another is in trouble: then it isn't all as fresh as that.
        if (const base::Error* const error = trouble()) feed_.report(*error);
        return;
      }
    }
    if (confirm_due_ && published_ && trouble() == nullptr) feed_.confirm();
    confirm_due_ = false;
  }

  [[nodiscard]] milliseconds wait_time(TimePoint now) const {
    TimePoint until = now + kLongest;
    for (const Stream& stream : streams_) {
      if (!stream.request) until = std::min(until, stream.not_before);
    }
    if (!check_) until = std::min(until, check_at_);
    if (changed_ && all_listed()) until = std::min(until, pace_.due());
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(until - now));
  }

  Feed& feed_;
  const KubernetesSettings& settings_;
  const std::string server_;
  Cluster cluster_;
  base::Random& random_;
  std::deque<Stream> streams_;  // callbacks refer to them
  http::Fetcher fetcher_;       // goes before what its callbacks refer to
  std::optional<http::Fetcher::Id> check_;
  std::optional<base::Error> check_trouble_;  // reported, and not over
  TimePoint check_at_{};
  PublishPace pace_;
  unsigned failed_checks_ = 0;
  bool changed_ = false;
  bool confirm_due_ = false;
  bool published_ = false;
};

/// What the node's label says; empty without permission, node or label.
base::Result<std::string> zone_of(const Access& access, const std::string& node, int wake_fd) {
  http::Fetcher fetcher(access.fetch);
  const std::string url = access.server + "/api/v1/nodes/" + http::url_encode(node);
  const auto response = MESH_TRY(fetcher.fetch({.url = url}, wake_fd));
  if (response.ok()) return MESH_TRY(read_object(response.body)).meta.zone;
  base::Error error = http::status_error(response, "read the zone of node " + node);
  if (response.status != 403 && response.status != 404) return std::unexpected(std::move(error));
  kLog.warn("zone unknown: hints for zones are ignored", {{"err", error}});
  return std::string();
}

std::unique_ptr<Registry> make_kubernetes(const KubernetesSettings& settings, RegistryContext context) {
  return std::make_unique<KubernetesRegistry>(settings, KubernetesRegistry::Options{.source = std::move(context.source),
                                                                                    .policy = std::move(context.policy),
                                                                                    .here = std::move(context.here),
                                                                                    .seed = context.seed});
}

constexpr RegistryType kubernetes_type() {
  RegistryType type = registry_type<KubernetesSettings, make_kubernetes, finish_kubernetes>(
      "kubernetes", "Services and EndpointSlices of a cluster; of sources of type kubernetes.", kKubernetesTable);
  type.knows_readiness = true;
  return type;
}

}  // namespace

constexpr RegistryType kKubernetesRegistry = kubernetes_type();

base::Result<void> KubernetesRegistry::run(Feed& feed) {
  const Access access = MESH_TRY(find_access(settings_, options_.around));
  ImportRules rules{.source = options_.source,
                    .policy = options_.policy,
                    .here = options_.here,
                    .headless = settings_.headless,
                    .external_addresses = settings_.external_addresses};
  if (!settings_.node.empty()) rules.here.node = settings_.node;
  if (rules.here.node.empty()) rules.here.node = options_.around.environment("NODE_NAME").value_or("");
  if (!settings_.zone.empty()) rules.here.zone = settings_.zone;
  if (rules.here.zone.empty() && !rules.here.node.empty()) {
    rules.here.zone = MESH_TRY(zone_of(access, rules.here.node, feed.wake_fd()));
  }
  return Session(feed, settings_, access, std::move(rules), random_).run();
}

}  // namespace mesh::discovery

// SPDX-License-Identifier: Apache-2.0
#include "app/scrape.hpp"

#include <utility>

namespace mesh::app {

Scrape::~Scrape() {
  if (thread_.joinable()) thread_.join();
}

void Scrape::request(Reply<std::string> reply) {
  waiting_.push_back(std::move(reply));
  if (!busy_) start();
}

void Scrape::start() {
  busy_ = true;
  under_way_ = std::exchange(waiting_, {});
  observe::MetricsInput input = gather_();
  input.series_dropped_before = series_dropped_;
  if (thread_.joinable()) thread_.join();
  thread_ = std::thread([this, input = std::move(input)]() mutable {
    const auto completed = complete_(input);
    base::Result<observe::MetricsPage> page = std::unexpected(completed ? base::Error{} : completed.error());
    if (completed) page = observe::render_metrics(input);
    loop_.post([this, page = std::move(page)]() mutable { finish(std::move(page)); });
  });
}

void Scrape::finish(base::Result<observe::MetricsPage> page) {
  busy_ = false;
  if (page) series_dropped_ += page->series_dropped;
  for (auto& reply : std::exchange(under_way_, {})) {
    if (page) {
      reply(page->text);
    } else {
      reply(std::unexpected(page.error()));
    }
  }
  if (!waiting_.empty()) start();
}

}  // namespace mesh::app

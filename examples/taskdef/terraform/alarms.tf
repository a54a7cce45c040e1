# Before there are tasks nothing refreshes, and that is no alarm.
locals {
  alarms        = var.desired_count > 0 ? 1 : 0
  alarm_actions = var.alarm_topic == "" ? [] : [var.alarm_topic]
}

# Of all tasks the one that is worst off. No metric at all is as bad, so it is made after the service, and may
# sound until its first task has refreshed. The period is longer than two lines of metrics can be
# apart, however rare refreshes are; a task that SSM throttled is late when it misses a refresh of its own interval.
resource "aws_cloudwatch_metric_alarm" "no_refresh" {
  count      = local.alarms
  depends_on = [aws_ecs_service.task]

  alarm_name          = "${var.name}-snowflake-key-no-refresh"
  alarm_description   = "A task of ${var.name} is late with its refresh from the parameters of its Snowflake key. It goes on with the key that it has, and would miss a rotation. The log of its sidecar says why, and what to do."
  namespace           = "Snowkey"
  metric_name         = "MinutesLate"
  dimensions          = { Service = var.name }
  statistic           = "Maximum"
  period              = 900
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.refresh_max_minutes
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "old_key" {
  count = local.alarms

  alarm_name          = "${var.name}-snowflake-key-old"
  alarm_description   = "The Snowflake key of ${var.name} is due for rotation."
  namespace           = "Snowkey"
  metric_name         = "KeyAgeDays"
  dimensions          = { Service = var.name }
  statistic           = "Maximum"
  period              = 3600
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.key_max_age_days
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}
